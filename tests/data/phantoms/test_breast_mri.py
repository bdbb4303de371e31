"""Phantom breasts: the tumour is where its mask is, and nothing but it tells the class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medresnet3d.data import items, load_manifest
from medresnet3d.data.phantoms.breast_mri import breast_slice, write_breast_mri
from medresnet3d.errors import ConfigError


def test_the_tumour_is_bright_and_where_its_mask_is() -> None:
    picture, mask = breast_slice(3, True, difficulty=0.2)
    again, _ = breast_slice(3, True, difficulty=0.2)
    assert np.array_equal(picture, again) and picture.shape == (64, 64) and picture.dtype == np.uint8
    assert 0.002 < mask.mean() < 0.15 and not breast_slice(3, False)[1].any()
    rest = picture[(mask == 0) & (picture > 20)]
    assert picture[mask == 1].mean() > 1.5 * rest.mean()


def test_light_and_tissue_say_nothing_of_the_class() -> None:
    skins = [[breast_slice([seed, kind], bool(kind), (32, 32))[0][:4].mean() for seed in range(40)] for kind in (0, 1)]
    assert abs(np.mean(skins[0]) - np.mean(skins[1])) < 2.5 * np.std(skins[0]) / np.sqrt(20)


def test_a_harder_tumour_is_less_bright() -> None:
    def brightness(difficulty: float) -> float:
        drawn = [breast_slice([seed, 9], True, difficulty=difficulty) for seed in range(8)]
        return float(np.mean([picture[mask == 1].mean() for picture, mask in drawn]))

    assert brightness(0.1) > brightness(0.9) + 30


def test_slices_of_a_patient_stay_together(tmp_path: Path) -> None:
    manifest = load_manifest(write_breast_mri(tmp_path, 20, 8, size=(24, 24)))
    assert list(manifest.labels) == ["no tumour", "tumour"]
    parts = [{item["patient"] for item in items(manifest, part)} for part in ("training", "validation", "test")]
    assert [len(items(manifest, part)) for part in ("training", "validation", "test")][2] == 8
    assert sum(len(part) for part in parts) == len(set.union(*parts)) == 14


def test_impossible_wishes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="difficulty is 2"):
        breast_slice(0, True, difficulty=2)
    with pytest.raises(ConfigError, match="have not both classes"):
        write_breast_mri(tmp_path, 2)
