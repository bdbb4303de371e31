from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medresnet3d.data import SeededDataset, data_loader
from medresnet3d.data.phantoms.pictures import skin
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.transforms.batched import AugmentedBatch
from medresnet3d.transforms.colour_augmentation import RandRaiseChanneld
from medresnet3d.transforms.dermoscopy import ShadesOfGreyd
from medresnet3d.transforms.load import LoadVolumed
from medresnet3d.transforms.picture_pipelines import (
    STRENGTHS,
    AsColour,
    CentralSquared,
    picture_augmentation,
    picture_inference,
    picture_training,
)
from medresnet3d.weights.normalisation import IMAGENET_DEVIATION, IMAGENET_MEAN


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A colour picture of 60 x 40 and a grey one of 16 bits."""
    folder = tmp_path_factory.mktemp("pictures")
    picture = skin(60, seed=0).picture[:, :, :40]
    Image.fromarray(picture.transpose(2, 1, 0)).save(folder / "colour.png")
    Image.fromarray(picture[0].T.astype(np.uint16) * 257).save(folder / "grey.png")
    return [str(folder / "colour.png"), str(folder / "grey.png")]


def test_grey_and_colour_of_any_depth_become_the_same_scale() -> None:
    grey = np.array([[[0, 65535]]], dtype=np.uint16)
    np.testing.assert_array_equal(AsColour()(grey), [[[0, 1]]] * 3)
    colour = torch.tensor([0.0, 51.0, 255.0]).reshape(3, 1, 1, 1)
    torch.testing.assert_close(AsColour()(colour), torch.tensor([0.0, 0.2, 1.0]).reshape(3, 1, 1))


def test_inference_is_resized_and_normalised(files: list[str]) -> None:
    image = picture_inference(32)({"image": files[0], "label": 1})["image"]
    assert image.shape == (3, 32, 32) and image.dtype == torch.float32
    unit = image.numpy() * np.array(IMAGENET_DEVIATION)[:, None, None] + np.array(IMAGENET_MEAN)[:, None, None]
    source = skin(60, seed=0).picture[:, :, :40] / 255
    np.testing.assert_allclose(unit.mean((1, 2)), source.mean((1, 2)), atol=0.01)
    assert unit.min() > -0.01 and unit.max() < 1.01


def test_without_augmentation_training_sees_what_inference_sees(files: list[str]) -> None:
    for path in files:
        training = picture_training(24, augmentation="none")({"image": path, "label": 0})["image"]
        torch.testing.assert_close(training, picture_inference(24)({"image": path})["image"].as_tensor())


@pytest.mark.parametrize("mode", ["per_sample", "batched"])
@pytest.mark.parametrize("strength", STRENGTHS)
def test_batches_in_both_modes(strength: str, mode: str, files: list[str]) -> None:
    preprocessing = picture_training(16, strength, mode)
    data = SeededDataset(
        [{"image": path, "label": index} for index, path in enumerate(files)], preprocessing, repeats=3
    )
    prepare = AugmentedBatch(preprocessing)
    (image, label), *_ = [prepare(batch, "cpu") for batch in data_loader(data, batch_size=6)]
    assert image.shape == (6, 3, 16, 16) and image.dtype == torch.float32 and label.tolist() == [0, 1] * 3
    plain = torch.stack([picture_inference(16)({"image": files[index]})["image"].as_tensor() for index in (0, 1)])
    assert torch.allclose(image, plain.repeat(3, 1, 1, 1)) == (strength == "none")
    assert image.isfinite().all() and image.abs().max() < 4


def test_transforms_of_the_modality_come_first(files: list[str]) -> None:
    item = {"image": files[0]}
    grey = picture_inference(16, [ShadesOfGreyd("image")])(item)["image"]
    assert not torch.allclose(grey, picture_inference(16)(item)["image"])


def test_further_variations_see_values_from_0_to_1_and_are_left_out_without_augmentation(files: list[str]) -> None:
    raised = RandRaiseChanneld("image", prob=1.0, amount=(0.2, 0.2))
    training = picture_training(16, "light", jitter=0.0, variations=[raised]).set_random_state(1)
    image, plain = training({"image": files[0]})["image"], picture_inference(16)({"image": files[0]})["image"]
    added = (image.mean((1, 2)) - plain.as_tensor().mean((1, 2))) * torch.tensor(IMAGENET_DEVIATION)
    assert sorted(added.tolist()) == pytest.approx([0, 0, 0.2], abs=0.02)
    unchanged = picture_training(16, "none", variations=[raised])({"image": files[0]})["image"]
    torch.testing.assert_close(unchanged, plain.as_tensor())


def test_unknown_strengths_are_listed() -> None:
    assert picture_augmentation("none") == []
    with pytest.raises(ConfigError, match="no augmentation 'wild'; use none, light, medium, strong"):
        picture_augmentation("wild")


def test_the_central_square_keeps_its_place(tmp_path: Path) -> None:
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:10, :15], pixels[10:, 15:] = (255, 0, 0), (0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = picture_inference(20, frame="square")({"image": str(tmp_path / "a.png")})["image"]
    deviation, mean = (torch.tensor(values)[:, None, None] for values in (IMAGENET_DEVIATION, IMAGENET_MEAN))
    unit = image.as_tensor() * deviation + mean
    torch.testing.assert_close(unit[:, 2, 2], torch.tensor([1.0, 0, 0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(unit[:, 17, 17], torch.tensor([0, 0, 1.0]), atol=1e-5, rtol=0)
    assert float(unit[:, 17, 2].abs().max()) < 1e-5, "column 17, row 2 is black"
    read = LoadVolumed("image")({"image": str(tmp_path / "a.png")})
    start = read["image"].affine @ torch.tensor([5.0, 0, 0, 1], dtype=read["image"].affine.dtype)
    torch.testing.assert_close(CentralSquared("image")(read)["image"].affine[:, 3], start)


@pytest.mark.parametrize(("suffix", "mode"), [("png", "RGBA"), ("png", "P"), ("tif", "RGB"), ("bmp", "RGB")])
def test_formats_and_modes_give_the_same(tmp_path: Path, suffix: str, mode: str) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 2, (20, 20, 3), dtype=np.uint8) * 255)
    picture.save(tmp_path / "plain.png")
    picture.convert(mode).save(tmp_path / f"other.{suffix}")
    plain, other = (
        picture_inference(20)({"image": str(tmp_path / name)})["image"] for name in ("plain.png", f"other.{suffix}")
    )
    assert torch.equal(torch.as_tensor(plain), torch.as_tensor(other))


def test_making_it_smaller_smooths_first(tmp_path: Path) -> None:
    Image.fromarray((np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)).save(tmp_path / "checks.png")
    image = picture_inference(16)({"image": str(tmp_path / "checks.png")})["image"].as_tensor()
    grey = image * torch.tensor(IMAGENET_DEVIATION)[:, None, None] + torch.tensor(IMAGENET_MEAN)[:, None, None]
    assert (grey - 0.5).abs().max() < 0.1


@pytest.mark.parametrize("shape", [(1, 8, 8, 5), (2, 8, 8, 1), (4, 8, 8, 1)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="pictures, but the image has"):
        AsColour()(torch.rand(shape))
    with pytest.raises(ConfigError, match="no frame 'round'; use whole or square"):
        picture_inference(frame="round")


def test_the_square_of_an_array() -> None:
    assert CentralSquared("image")({"image": np.zeros((3, 9, 4, 1))})["image"].shape == (3, 4, 4, 1)


def test_versions_and_covers_are_packed_and_normalised_each(files: list[str]) -> None:
    item = {"image": files[0], "label": 0}
    plain = picture_inference(16)(item)["image"].as_tensor()
    versions = picture_inference(16, versions=[None, torch.neg, None])(item)["image"].as_tensor()
    assert versions.shape == (9, 16, 16)
    assert torch.equal(versions[:3], plain) and torch.equal(versions[6:], plain)
    assert not torch.allclose(versions[3:6], plain)
    covered = picture_training(16, augmentation="none", covers=[None, torch.zeros_like])(item)["image"]
    assert covered.shape == (6, 16, 16) and torch.equal(covered[:3], plain)
    black = -torch.tensor(IMAGENET_MEAN) / torch.tensor(IMAGENET_DEVIATION)
    torch.testing.assert_close(covered[3:].mean((1, 2)), black, atol=1e-5, rtol=0)
