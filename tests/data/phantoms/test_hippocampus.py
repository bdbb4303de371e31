from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medresnet3d.data import items
from medresnet3d.data.phantoms.hippocampus import (
    hippocampus_phantom,
    write_hippocampus_cohort,
    write_hippocampus_crops,
)
from medresnet3d.data.phantoms.mri import patients
from medresnet3d.io import load


def test_a_phantom_has_both_parts_the_anterior_in_front() -> None:
    for seed in range(5):
        phantom = hippocampus_phantom(seed)
        anterior, posterior = (np.argwhere(phantom.labels == part) for part in (1, 2))
        assert 500 < len(anterior) < 4000 and 500 < len(posterior) < 4000
        assert anterior[:, 1].min() > posterior[:, 1].max() - 1
        assert np.array_equal(phantom.image, hippocampus_phantom(seed).image)


def test_a_left_one_is_a_right_one_mirrored() -> None:
    right, left = hippocampus_phantom(3), hippocampus_phantom(3, right=False)
    assert np.array_equal(left.labels, right.labels[::-1])
    assert np.array_equal(left.image, right.image[::-1])


def test_crops_are_a_manifest_of_pairs_on_one_grid(tmp_path: Path) -> None:
    listed = items(write_hippocampus_crops(tmp_path, count=3), "all")
    assert len({item["patient"] for item in listed}) == 3
    for item in listed:
        image, label = load(item["image"]), load(item["label"])
        assert image.shape == label.shape
        assert np.array_equal(image.affine, label.affine)


@pytest.mark.parametrize(("masked", "share"), [(0, 0.0), (1, 1.0)])
def test_a_cohort_has_the_masks_of_its_own_people(masked: int, share: float, tmp_path: Path) -> None:
    path = write_hippocampus_cohort(tmp_path, people=9, size=32, masked=masked)
    content = json.loads(path.read_text())
    entries = [entry for section in ("training", "validation", "test") for entry in content[section]]
    assert content["labels"] == ["CN", "AD"] or set(content["labels"].values()) == {"CN", "AD"}
    assert sum("mask" in entry for entry in entries) == share * len(entries)
    atrophy = {f"{295 + person.number:04d}": person.atrophy for person in patients(9, 0)}
    volumes = {}
    for item in items(path, "all"):
        if "mask" in item:
            mask, image = load(item["mask"], constant_ok=True), load(item["image"])
            assert mask.shape == image.shape and np.allclose(mask.affine, image.affine)
            volumes[atrophy[item["patient"][-4:]]] = int((mask.array > 0).sum())
    if masked:
        assert volumes[max(volumes)] < volumes[min(volumes)]
