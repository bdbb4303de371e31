"""Sections: one stain for all, and several magnifications as channels, some of which may be missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medresnet3d.data.phantoms.histology import section
from medresnet3d.data.preparation.mimics import write_picture
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.transforms.histology import (
    LoadMagnificationsd,
    StainNormalisation,
    histology_inference,
    histology_training,
)
from medresnet3d.weights.normalisation import IMAGENET_DEVIATION, IMAGENET_MEAN

SIZE = (24, 16)


def write(folder: Path, power: int, name: str = "") -> str:
    path = folder / (name or f"SOB_M_DC-14-1-{power}-001.png")
    pixels = np.full((32, 48, 3), power // 4, np.uint8)
    pixels[0, 0] += 1  # a picture of one value is refused
    write_picture(path, pixels)
    return str(path)


def powers(image: torch.Tensor) -> list[int]:
    """Which magnification each block of channels shows; 0 for none."""
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    middle = image[:, 8:16, 5:11]  # MONAI's smoothing before resizing darkens the border
    blocks = [middle[at : at + 3] for at in range(0, len(image), 3)]
    return [0 if not block.any() else round(float((block * deviation + mean).mean() * 255)) * 4 for block in blocks]


def test_names_say_which_magnification_an_image_has(tmp_path: Path) -> None:
    images = [write(tmp_path, power) for power in (400, 40, 200, 100)]
    load = LoadMagnificationsd(size=SIZE)
    found = load({"image": images})["image"]
    assert found.shape == (12, *SIZE) and powers(found.as_tensor()) == [40, 100, 200, 400]
    assert powers(load({"image": images[:2]})["image"].as_tensor()) == [40, 0, 0, 400]
    assert powers(load({"image": images[2]})["image"].as_tensor()) == [0, 0, 200, 0]


def test_without_names_the_order_says_it_and_all_must_be_there(tmp_path: Path) -> None:
    images = [write(tmp_path, power, f"{letter}.png") for power, letter in zip((40, 100), "ab", strict=True)]
    load = LoadMagnificationsd(magnifications=(40, 100), size=SIZE)
    assert powers(load({"image": images})["image"].as_tensor()) == [40, 100]
    with pytest.raises(DataError, match=r"1 image.s. do not say which of the magnifications 40, 100"):
        load({"image": images[:1]})
    with pytest.raises(DataError, match="same magnification"):
        load({"image": [write(tmp_path, 40), write(tmp_path, 40, "SOB_M_DC-14-1-40-002.png")]})
    with pytest.raises(ConfigError, match="name each once"):
        LoadMagnificationsd(magnifications=(40, 40))


def test_a_chain_changes_all_magnifications_alike_and_leaves_the_missing_ones_missing(tmp_path: Path) -> None:
    images = []
    for power in (40, 200):
        path = tmp_path / f"SOB_M_DC-14-1-{power}-001.png"
        write_picture(path, section(3, "DC", "100", (32, 48)))  # the same picture twice
        images.append(str(path))
    chain = histology_training(SIZE, augmentation="medium")
    chain.set_random_state(5)
    item = chain({"image": images, "label": 1})
    assert item["image"].shape == (12, *SIZE) and item["label"] == 1
    assert not item["image"][3:6].any() and not item["image"][9:].any()
    assert torch.equal(item["image"][:3], item["image"][6:9])
    plain = histology_inference(SIZE)({"image": images})["image"]
    assert not torch.equal(plain.as_tensor(), item["image"])


def test_stain_normalisation_brings_two_stains_together() -> None:
    pictures = [np.moveaxis(section(4, "TA", "100", (64, 96), person=person), -1, 0) for person in range(6)]

    def apart(change: Any) -> float:
        """Standard deviation over persons of what is one tissue."""
        return float(np.std([change(each).astype(float) for each in pictures], axis=0).mean())

    normalise = StainNormalisation()
    assert normalise(pictures[0]).dtype == np.uint8 and normalise(pictures[0]).shape == pictures[0].shape
    assert apart(normalise) < 0.6 * apart(lambda picture: picture)
    blank = np.full((3, 8, 8), 250, np.uint8)
    assert np.array_equal(normalise(blank), blank), "no tissue, no stain"
