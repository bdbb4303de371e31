from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medresnet3d.data import items
from medresnet3d.data.phantoms.lidc import graded_nodule, outline, write_lidc, write_nodule_cohort
from medresnet3d.data.preparation.prepare import prepare
from medresnet3d.io import load


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lidc(tmp_path_factory.mktemp("lidc"), 6, seed=2, size=32)


def test_the_adapter_finds_each_nodule_where_it_was_drawn(root: Path, tmp_path: Path) -> None:
    manifest = prepare("lidc_idri", root, tmp_path / "m.json", folds=0).path
    listed = sorted(items(manifest, "all"), key=lambda item: item["patient"])
    assert [item["label"] for item in listed] == [0, 1, 0, 1, 0, 1]
    assert all(len(item["malignancy"]) == 4 for item in listed)
    for number, (item, grade) in enumerate(zip(listed, (1, 5, 2, 4, 1, 5), strict=True)):
        _, mask = graded_nodule(grade, (2, number), 32)
        centre = np.argwhere(mask).mean(0) - 15.5
        np.testing.assert_allclose(item["position"], centre, atol=1.2)
        diameter = 2 * np.cbrt(3 * mask.sum() / (4 * np.pi))
        assert item["diameter_mm"] == pytest.approx(diameter, rel=0.15)


def test_the_written_scan_is_the_drawn_one(root: Path) -> None:
    volume = load(next((root / "LIDC-IDRI" / "LIDC-IDRI-0002").glob("*/*")))
    cube, _ = graded_nodule(5, (2, 1), 32)
    world = np.array([3.5, -6.5, -7.5])
    i, j, k = np.rint(np.linalg.solve(volume.affine[:3, :3], world - volume.affine[:3, 3])).astype(int)
    assert volume.array[i, j, k] == cube[19, 9, 8]


def test_label_maps_of_the_outlines_are_the_masks(root: Path, tmp_path: Path) -> None:
    manifest = prepare("lidc_idri", root, tmp_path / "m.json", task="nodules", folds=0).path
    for number, item in enumerate(sorted(items(manifest, "all"), key=lambda item: item["patient"])):
        found = load(item["label"], constant_ok=True)
        _, mask = graded_nodule((1, 5, 2, 4)[number % 4], (2, number), 32)
        drawn = mask[::-1, ::-1, ::2] if found.affine[0, 0] < 0 else mask[:, :, ::2]
        overlap = 2 * (drawn & (found.array > 0)).sum() / (drawn.sum() + (found.array > 0).sum())
        assert overlap > 0.85


def test_an_outline_runs_through_the_first_pixels_outside() -> None:
    plane = np.zeros((9, 9), np.uint8)
    plane[3:6, 2:7] = 1
    ring = {(i, j) for i in range(2, 7) for j in range(1, 8)} - {(i, j) for i in range(3, 6) for j in range(2, 7)}
    assert {(int(i), int(j)) for i, j in outline(plane)} == ring


def test_a_cohort_holds_out_and_says_what_it_is(tmp_path: Path) -> None:
    manifest = write_nodule_cohort(tmp_path, patients=12, size=24)
    assert {len(items(manifest, section)) for section in ("validation", "test")} <= {2, 3}
    assert json.loads(manifest.read_text())["name"].startswith("phantoms in the layout of LIDC-IDRI")
