"""From picture files of every kind to a normalised square."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medresnet3d.data import SeededDataset
from medresnet3d.errors import DataError
from medresnet3d.transforms.planar import IMAGENET_MEAN, IMAGENET_STD, ToSquared, picture_inference, picture_training


def save(path: Path, pixels: np.ndarray, mode: str | None = None) -> str:
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path)
    return str(path)


def colours() -> np.ndarray:
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:10, :15] = (255, 0, 0)
    pixels[10:, 15:] = (0, 0, 255)
    return pixels


def unnormalised(image: torch.Tensor) -> torch.Tensor:
    return image * torch.tensor(IMAGENET_STD)[:, None, None] + torch.tensor(IMAGENET_MEAN)[:, None, None]


def test_the_central_square_in_red_green_and_blue(tmp_path: Path) -> None:
    item = picture_inference(20)({"image": save(tmp_path / "a.png", colours())})
    square = unnormalised(torch.as_tensor(item["image"]))
    assert square.shape == (3, 20, 20)
    torch.testing.assert_close(square[:, 2, 2], torch.tensor([1.0, 0, 0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(square[:, 17, 17], torch.tensor([0, 0, 1.0]), atol=1e-5, rtol=0)
    assert float(square[:, 17, 2].abs().max()) < 1e-5, "column 17, row 2 is black"


@pytest.mark.parametrize(("suffix", "mode"), [("png", "RGBA"), ("png", "P"), ("tif", None), ("bmp", None)])
def test_formats_and_modes_give_the_same(tmp_path: Path, suffix: str, mode: str | None) -> None:
    plain = picture_inference(20)({"image": save(tmp_path / "plain.png", colours())})["image"]
    other = picture_inference(20)({"image": save(tmp_path / f"other.{suffix}", colours(), mode)})["image"]
    assert torch.equal(torch.as_tensor(plain), torch.as_tensor(other))


def test_grey_and_sixteen_bits(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(20, dtype=np.uint16) * 3000, (20, 1))
    deep = ToSquared("image")({"image": torch.from_numpy(ramp.T.astype(np.float32))[None, ..., None]})["image"]
    assert deep.shape == (3, 20, 20) and torch.equal(deep[0], deep[2])
    torch.testing.assert_close(deep[0, :, 0], torch.arange(20) * 3000 / 65535)
    item = picture_inference(20)({"image": save(tmp_path / "deep.png", ramp)})
    torch.testing.assert_close(unnormalised(torch.as_tensor(item["image"])), deep, atol=1e-5, rtol=0)


def test_making_it_smaller_smooths_first(tmp_path: Path) -> None:
    checks = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    item = picture_inference(16)({"image": save(tmp_path / "checks.png", checks)})
    assert (unnormalised(torch.as_tensor(item["image"])) - 0.5).abs().max() < 0.1


def test_augmentation_is_random_repeats_by_seed_and_can_be_left_out(tmp_path: Path) -> None:
    items = [{"image": save(tmp_path / "a.png", colours())}]
    first, again, other = (
        torch.as_tensor(SeededDataset(items, picture_training(20), seed=seed)[0]["image"]) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    plain = SeededDataset(items, picture_training(20, augmentation="none"))[0]["image"]
    assert torch.equal(torch.as_tensor(plain), torch.as_tensor(picture_inference(20)(items[0])["image"]))
    with pytest.raises(DataError, match="choose light or none"):
        picture_training(augmentation="wild")


@pytest.mark.parametrize("shape", [(1, 8, 8, 5), (2, 8, 8, 1), (4, 8, 8, 1)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="pictures, but the image has"):
        ToSquared("image")({"image": torch.rand(shape)})
