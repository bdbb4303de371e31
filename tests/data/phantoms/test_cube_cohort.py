from __future__ import annotations

import json
from pathlib import Path

import nibabel
import pytest

from medresnet3d.data import items
from medresnet3d.data.phantoms.cube_cohort import NODULES, write_nodule_cubes, write_tumour_cubes
from medresnet3d.errors import ConfigError


def test_cohort_has_both_classes_in_every_section_and_repeats_by_seed(tmp_path: Path) -> None:
    manifest = write_nodule_cubes(tmp_path / "a", cubes=12, size=16)
    counts = {
        section: [item["label"] for item in items(manifest, section)] for section in ("training", "validation", "test")
    }
    assert counts == {"training": [0, 1] * 4, "validation": [0, 1], "test": [0, 1]}
    everything = items(manifest, "all")
    assert len({item["patient"] for item in everything}) == 12
    image = nibabel.load(everything[0]["image"])
    assert image.shape == (16, 16, 16)
    assert image.get_fdata().min() < -500
    again = write_nodule_cubes(tmp_path / "b", cubes=12, size=16)
    assert again.read_text() == manifest.read_text()
    same = nibabel.load(items(again, "all")[0]["image"])
    assert (same.get_fdata() == image.get_fdata()).all()
    assert (same.affine == image.affine).all()


@pytest.mark.parametrize("cubes", [4, 13])
def test_too_few_cubes(tmp_path: Path, cubes: int) -> None:
    with pytest.raises(ConfigError, match="even and larger"):
        write_nodule_cubes(tmp_path, cubes=cubes)


def test_tumours_are_told_from_structures_of_a_healthy_lung(tmp_path: Path) -> None:
    manifest = write_tumour_cubes(tmp_path, cubes=24, size=16)
    kinds: dict[int, set[str]] = {0: set(), 1: set()}
    for item in items(manifest, "all"):
        kinds[item["label"]].add(item["kind"])
    assert kinds[0] == {"vessel", "airway"} and kinds[1] <= set(NODULES) and len(kinds[1]) > 1
    assert json.loads(manifest.read_text())["labels"] == {"0": "normal", "1": "tumour"}
