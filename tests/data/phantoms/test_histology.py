"""Phantom sections: what tells the types apart, what does not, and the official layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medresnet3d.data import items, load_manifest
from medresnet3d.data.phantoms.histology import LOOKS, section, write_breakhis
from medresnet3d.errors import ConfigError


def test_the_same_seed_draws_the_same_section_in_the_colours_of_the_stain() -> None:
    picture = section(1, "A", "100")
    assert np.array_equal(picture, section(1, "A", "100")) and not np.array_equal(picture, section(2, "A", "100"))
    assert picture.shape == (96, 144, 3) and picture.dtype == np.uint8
    assert picture[..., 1].mean() < picture[..., [0, 2]].mean() - 10, "pink and violet, not green"


def test_nuclei_of_malignant_types_are_larger_at_high_magnification() -> None:
    def dark(kind: str) -> float:
        drawn = [section([seed, 7], kind, "400", (64, 96), person=0)[..., 0] for seed in range(6)]
        return float(np.mean([(each < 130).mean() for each in drawn]))

    assert dark("DC") > 1.5 * dark("F")


def test_a_person_has_one_stain() -> None:
    means = [
        [section([seed, 3], "TA", "40", (32, 48), person=person).mean((0, 1)) for seed in range(4)]
        for person in range(6)
    ]
    within, between = np.std(means, axis=1).mean(), np.std(np.mean(means, axis=1), axis=0).mean()
    assert between > 2 * within


def test_blur_takes_detail_away() -> None:
    sharp, blurred = (section(1, "A", "200", blur=blur)[..., 0].astype(float) for blur in (0.0, 0.03))
    assert np.abs(np.diff(blurred, axis=1)).mean() < 0.5 * np.abs(np.diff(sharp, axis=1)).mean()


def test_the_official_layout_is_prepared_by_the_adapter_in_sets(tmp_path: Path) -> None:
    path = write_breakhis(tmp_path, patients=2, images=2, size=(16, 24))
    manifest = load_manifest(path)
    listed = items(manifest, "training") + items(manifest, "validation") + items(manifest, "test")
    assert len(manifest.labels) == len(LOOKS) and len(listed) == 8 * 2 * 2
    assert all(len(item["image"]) == 4 for item in listed)
    assert len({item["patient"] for item in items(manifest, "test")}) == 8
    for item in listed:
        names = [Path(image).stem for image in item["image"]]
        assert [name.split("-")[-2] for name in names] == ["40", "100", "200", "400"]
        assert len({name.split("-")[-1] for name in names}) == 1
    raw = json.loads(path.read_text())
    assert raw["training"][0]["magnification"] == [40, 100, 200, 400]


def test_impossible_wishes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no 'B' at '40'"):
        section(0, "B", "40")
    with pytest.raises(ConfigError, match="2 of 2 patients"):
        write_breakhis(tmp_path, patients=2, test=2)
