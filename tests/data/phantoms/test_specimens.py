from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from skimage.filters import threshold_otsu

from medresnet3d.data import items
from medresnet3d.data.phantoms.specimens import FIELDS, I3A, specimen_field, write_specimens
from medresnet3d.errors import ConfigError
from medresnet3d.io import load


@pytest.mark.parametrize("pattern", I3A.values())
def test_cells_are_brighter_than_what_is_around_them(pattern: str) -> None:
    picture, mask = specimen_field(3, pattern, difficulty=0.0)
    assert picture.shape == mask.shape == (96, 128)
    assert 0.03 < mask.mean() < 0.5
    assert picture[mask > 0].mean() > picture[mask == 0].mean() + 10
    again, _ = specimen_field(3, pattern, difficulty=0.0)
    assert np.array_equal(picture, again)


def overlap(difficulty: float) -> float:
    found = []
    for seed in range(6):
        picture, mask = specimen_field(seed, "homogeneous", difficulty=difficulty)
        answer = picture > threshold_otsu(picture)
        found.append(2 * (answer & (mask > 0)).sum() / (answer.sum() + mask.sum()))
    return float(np.mean(found))


def test_a_threshold_finds_cells_in_even_light_alone() -> None:
    assert overlap(0.0) > 0.9
    assert overlap(0.9) < overlap(0.0) - 0.2


def test_the_layout_is_that_of_i3a_and_a_specimen_is_in_one_part(tmp_path: Path) -> None:
    manifest = write_specimens(tmp_path, 4, size=(40, 48), cell=16)
    parts = [items(manifest, section) for section in ("training", "validation", "test")]
    assert sum(map(len, parts)) == 4 * FIELDS
    people = [{item["patient"] for item in part} for part in parts]
    assert all(people) and not (people[0] & people[1] or people[0] & people[2] or people[1] & people[2])
    values = np.unique(load(parts[0][0]["label"]).array)
    assert values.tolist() == [0, 1]


def test_impossible_requests_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="2 specimens cannot be split in three"):
        write_specimens(tmp_path, 2)
    with pytest.raises(ConfigError, match="cell 20, difficulty 2"):
        specimen_field(0, "golgi", difficulty=2)
    with pytest.raises(ConfigError, match=r"Staining pattern 'Golgy' is unknown"):
        specimen_field(0, "Golgy")
