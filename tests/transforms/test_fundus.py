from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd
from scipy import ndimage

from medresnet3d.data.phantoms.pictures import fundus
from medresnet3d.errors import DataError
from medresnet3d.transforms.fundus import (
    FieldOfViewCrop,
    FieldOfViewCropd,
    GreenChannelCLAHE,
    LocalAverageSubtraction,
    field_of_view,
    fundus_preparation,
)
from medresnet3d.transforms.load import LoadVolumed

TRUTH = fundus(seed=1)


def test_the_disc_is_found_with_noise_in_the_frame() -> None:
    noisy = TRUTH.picture + np.random.default_rng(0).integers(0, 6, TRUTH.picture.shape, dtype=np.uint8)
    found = field_of_view(noisy)
    assert 2 * (found & TRUTH.disc).sum() / (found.sum() + TRUTH.disc.sum()) > 0.98
    assert field_of_view(noisy[..., None]).shape == (*TRUTH.disc.shape, 1)
    assert field_of_view(np.zeros((3, 8, 8))).all()


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("flat", [False, True])
def test_the_crop_is_the_box_of_the_disc_and_goes_back(square: bool, flat: bool) -> None:
    values = torch.as_tensor(TRUTH.picture)[..., None] if flat else torch.as_tensor(TRUTH.picture)
    item = {
        "image": MetaTensor(values),
        "mask": MetaTensor(torch.as_tensor(TRUTH.vessels).float()[None].reshape(1, *values.shape[1:])),
    }
    crop = FieldOfViewCropd(["image", "mask"], square=square)
    cut = crop(item)
    box = ndimage.find_objects(TRUTH.disc.astype(int))[0]
    found = np.stack([cut["foreground_start_coord"], cut["foreground_end_coord"]], axis=1)[:2]
    if not square:
        np.testing.assert_allclose(found, [(each.start, each.stop) for each in box], atol=3)
    else:
        assert cut["image"].shape[1] == cut["image"].shape[2]
    assert cut["image"].shape[1:] == cut["mask"].shape[1:]
    back = crop.inverse(cut)
    assert back["image"].shape == values.shape
    inside = TRUTH.disc & field_of_view(TRUTH.picture)
    flat_back = torch.as_tensor(back["image"]).reshape(3, *TRUTH.disc.shape).numpy()
    np.testing.assert_array_equal(flat_back[:, inside], TRUTH.picture[:, inside])


def test_a_prediction_goes_back_by_invertd() -> None:
    item = {"image": MetaTensor(torch.as_tensor(TRUTH.picture).float())}
    crop = FieldOfViewCropd("image")
    cut = crop(item)
    cut["pred"] = MetaTensor(cut["image"][:1].as_tensor() > 0).copy_meta_from(cut["image"])
    cut["pred"].applied_operations = cut["image"].applied_operations
    back = Invertd("pred", crop, orig_keys="image")(cut)
    assert back["pred"].shape == (1, *TRUTH.disc.shape)


def test_array_and_dictionary_cut_alike() -> None:
    picture = torch.as_tensor(TRUTH.picture)
    assert torch.equal(FieldOfViewCrop()(picture), FieldOfViewCropd("image")({"image": picture})["image"])


def test_the_subtraction_levels_the_light_and_keeps_vessels_dark() -> None:
    result = LocalAverageSubtraction()(TRUTH.picture).astype(float)[1] / 255
    inner = ndimage.binary_erosion(TRUTH.disc, iterations=12)
    skin = inner & ~ndimage.binary_dilation(TRUTH.vessels, iterations=3)
    columns = np.arange(len(TRUTH.disc))
    quarters = [skin & ((columns < len(columns) * 0.4) == left)[:, None] for left in (True, False)]
    before = np.abs(np.diff([TRUTH.picture[1][each].mean() / 255 for each in quarters]))[0]
    after = np.abs(np.diff([np.median(result[each]) for each in quarters]))[0]
    assert after < 0.2 * before
    assert result[TRUTH.vessels & inner].mean() < result[skin].mean() - 0.1
    assert np.abs(result[~ndimage.binary_dilation(TRUTH.disc, iterations=2)] - 0.5).max() < 0.01


def test_the_subtraction_works_in_three_dimensions() -> None:
    volume = np.zeros((1, 20, 20, 20), np.float32)
    volume[:, 3:17, 3:17, 3:17] = np.linspace(0.3, 0.8, 14, dtype=np.float32)
    result = LocalAverageSubtraction(sigma=0.05, gain=1.0)(volume)
    assert np.abs(result[:, 6:14, 6:14, 6:14] - 0.5).max() < 0.02
    assert (result[:, 0] == 0.5).all()


def test_green_alone_with_more_contrast() -> None:
    result = GreenChannelCLAHE(clip_limit=0.03)(TRUTH.picture)
    assert result.shape == (1, *TRUTH.disc.shape) and result.dtype == np.uint8
    inner = ndimage.binary_erosion(TRUTH.disc, iterations=10)
    near = (
        inner
        & ndimage.binary_dilation(TRUTH.vessels, iterations=4)
        & ~ndimage.binary_dilation(TRUTH.vessels, iterations=1)
    )
    vessel = inner & TRUTH.vessels

    def contrast(picture: np.ndarray) -> float:
        return float(picture[near].mean() - picture[vessel].mean())

    assert contrast(result[0].astype(float)) > 1.3 * contrast(TRUTH.picture[1].astype(float))
    copies = GreenChannelCLAHE(clip_limit=0.03, channels=3)(TRUTH.picture)
    np.testing.assert_array_equal(copies, result.repeat(3, 0))
    with pytest.raises(DataError, match="green channel"):
        GreenChannelCLAHE()(TRUTH.picture[:1])


@pytest.mark.realdata
def test_real_photographs(realdata: Path) -> None:
    items = json.loads((realdata / "fundus" / "manifest.json").read_text())["training"][:12]
    for item in items:
        picture = LoadVolumed("image")({"image": str(realdata / "fundus" / item["image"])})["image"]
        cut = FieldOfViewCrop()(picture)
        assert cut.shape[1] < picture.shape[1]
        assert field_of_view(cut).mean() > 0.75


@pytest.mark.parametrize("local_average", [False, True])
def test_what_a_photograph_goes_through_before_it_is_classified(local_average: bool) -> None:
    picture = MetaTensor(torch.as_tensor(TRUTH.picture)[..., None])
    item = Compose(fundus_preparation(64, local_average))({"image": picture})
    prepared = torch.as_tensor(item["image"])
    assert prepared.shape == (3, 64, 64) and prepared.min() >= 0 and prepared.max() <= 1
    corner, middle = prepared[:, 0, 0], prepared[:, 28:36, 28:36].mean((1, 2))
    assert torch.allclose(corner, torch.full((3,), 0.5 if local_average else 0.0), atol=0.05)
    assert (middle[0] > middle[2] + 0.2) != local_average, "the colour of the retina is gone with the mean"
