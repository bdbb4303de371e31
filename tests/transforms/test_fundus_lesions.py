"""Tiles follow their masks, and what the network says of the disc comes back to the pixel it belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from medresnet3d.data.phantoms.fundus_lesions import fundus_photograph
from medresnet3d.errors import ConfigError
from medresnet3d.transforms.fundus_lesions import (
    LesionMaskd,
    OnPictured,
    RandCameraLooksd,
    RandLesionTiled,
    disc_in_a_square,
    exudate_inference,
    exudate_validation,
    lesion_training,
)


@pytest.fixture(scope="module")
def item(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("eye")
    drawn = fundus_photograph(3, "exudates", (120, 160))
    Image.fromarray(drawn.picture).save(folder / "eye.png")
    Image.fromarray(drawn.exudates).save(folder / "mask.png")
    return {"image": str(folder / "eye.png"), "mask": str(folder / "mask.png")}


def test_a_tile_and_its_mask_move_together() -> None:
    mask = (torch.rand(1, 40, 56, generator=torch.Generator().manual_seed(0)) > 0.8).float()
    mask = torch.nn.functional.max_pool2d(mask, 5, 1, 2)
    tiles = RandLesionTiled(size=32).set_random_state(0)
    for _ in range(8):
        tile = tiles({"image": mask.repeat(3, 1, 1), "label": mask})
        assert tile["image"].shape == (3, 32, 32) and tile["label"].shape == (1, 32, 32)
        assert torch.equal((tile["image"][:1] > 0.5).float(), tile["label"])


def test_lesions_are_sought_out_and_an_unknown_mask_stays_unknown() -> None:
    mask = torch.zeros(1, 200, 200)
    mask[0, 30:34, 150:154] = 1
    image = torch.rand(3, 200, 200, generator=torch.Generator().manual_seed(0))
    near = RandLesionTiled(size=32, lesion_share=1.0).set_random_state(0)
    assert np.mean([float(near({"image": image, "label": mask})["label"].sum()) > 0 for _ in range(20)]) > 0.9
    unknown = near({"image": image, "label": torch.full_like(mask, -1)})
    assert (unknown["label"] == -1).all()


def test_looks_change_values_within_their_range_and_nothing_at_strength_0() -> None:
    image = torch.rand(3, 24, 24, generator=torch.Generator().manual_seed(0))
    changed = RandCameraLooksd("image").set_random_state(1)({"image": image})["image"]
    assert changed.shape == image.shape and changed.min() >= 0 and changed.max() <= 1
    assert not torch.allclose(changed, image, atol=0.01)
    assert torch.equal(RandCameraLooksd("image", 0.0)({"image": image})["image"], image)


def test_chains(item: dict[str, str]) -> None:
    tile = lesion_training(64, 32).set_random_state(0)(item)
    assert tile["image"].shape == (3, 32, 32) and set(tile["label"].unique().tolist()) <= {0.0, 1.0}
    whole = exudate_validation(64)(item)
    assert whole["image"].shape == (3, 64, 64) and whole["label"].shape == (1, 64, 64)
    assert 0 < whole["label"].mean() < 0.2
    without = lesion_training(64, 32)({"image": item["image"]})
    assert (without["label"] == -1).all()
    assert float(exudate_validation(64, values=[2])(item)["label"].sum()) == 0
    with pytest.raises(ConfigError, match="Augmentation"):
        lesion_training(augmentation="wild")


def test_numbers_come_back_to_their_pixels(item: dict[str, str]) -> None:
    """The prepared photograph itself, brought back, is the file; what it was cut from is filled with the rest."""
    prepared = exudate_inference(192)(item)
    unit = prepared["image"].as_tensor() * torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    unit = unit + torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    back = OnPictured("pred", outside=-1.0)({**prepared, "pred": unit})["pred"]
    truth = torch.from_numpy(np.asarray(Image.open(item["image"])).copy()).permute(2, 1, 0)[..., None] / 255
    assert back.shape == truth.shape
    assert np.array_equal(np.asarray(back.affine), np.diag([-1.0, -1.0, 1.0, 1.0]))
    inside = back[0] >= 0
    assert inside.float().mean() > 0.7
    error = (back.as_tensor() - truth).abs()[:, inside.as_tensor()]
    assert error.mean() < 0.02 and torch.corrcoef(torch.stack([back[0][inside], truth[0][inside]]))[0, 1] > 0.99


def test_a_label_comes_back_within_half_a_pixel(item: dict[str, str]) -> None:
    prepared = exudate_validation(192)(item)
    back = OnPictured("pred")({**prepared, "pred": prepared["label"]})["pred"][0, :, :, 0] > 0.5
    truth = torch.from_numpy(np.asarray(Image.open(item["mask"])).T.copy()) > 0
    assert 2 * (back & truth).sum() / (back.sum() + truth.sum()) > 0.9


@pytest.mark.parametrize("edge", [883, 61, 40])
def test_white_stays_white_however_a_photograph_is_resized(edge: int, tmp_path: Path) -> None:
    """Rounding once made a white of 255.00003, and the photograph was read as one of 16 bits: all but black."""
    pixels = np.full((edge, edge, 3), 255, dtype=np.uint8)
    pixels[::7, ::5] = 90
    Image.fromarray(pixels).save(tmp_path / "photograph.png")
    item: Any = {"image": str(tmp_path / "photograph.png")}
    for transform in disc_in_a_square(448):
        item = transform(item)
    assert float(item["image"].max()) <= 1 and float(item["image"].mean()) > 0.9


def test_several_kinds_are_masks_of_their_own_and_each_is_looked_for() -> None:
    labels = torch.zeros(1, 40, 40, 1)
    labels[0, 5, 5], labels[0, 30, 30] = 2, 3
    masks = LesionMaskd(values=[[3], [1, 2]])({"mask": labels, "image": torch.zeros(3, 40, 40, 1)})["label"]
    assert masks.shape == (2, 40, 40, 1) and masks[0, 30, 30] == 1 and masks[1, 5, 5] == 1 and masks.sum() == 2
    item = {"image": torch.zeros(3, 40, 40), "label": functional.max_pool2d(masks[..., 0], 5, 1, 2)}
    draw = RandLesionTiled(size=12, lesion_share=1.0, scale=(0.9, 1.1))
    draw.set_random_state(0)
    seen = torch.stack([draw(item)["label"].amax((1, 2)) for _ in range(40)]).sum(0)
    assert (seen > 8).all()
