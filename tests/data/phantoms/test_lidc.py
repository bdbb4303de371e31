from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medresnet3d.data import items
from medresnet3d.data.collections.lidc_readings import RATINGS
from medresnet3d.data.phantoms.lidc import (
    NoduleLook,
    graded_nodule,
    nodule_look,
    outline,
    write_lidc,
    write_nodule_cohort,
)
from medresnet3d.data.preparation.prepare import prepare
from medresnet3d.io import load

RATINGS_SEEN = ("spiculation", "texture", "margin")


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


def test_readers_rate_what_is_drawn_and_not_the_grade() -> None:
    """An opinion follows from the look and the reader alone, and differs by the look."""
    smooth = NoduleLook("solid", "smooth", 10.0)
    spiky = NoduleLook("ground_glass", "spiculated", 10.0)
    assert smooth.rated(np.random.default_rng(0)) == smooth.rated(np.random.default_rng(0))
    means = [
        {name: np.mean([look.rated(np.random.default_rng([n]))[name] for n in range(200)]) for name in RATINGS_SEEN}
        for look in (smooth, spiky)
    ]
    assert means[1]["spiculation"] > means[0]["spiculation"] + 1
    assert means[1]["texture"] < means[0]["texture"] - 2
    assert means[1]["margin"] < means[0]["margin"] - 1.5
    for look in (smooth, spiky):
        for n in range(50):
            rated = look.rated(np.random.default_rng([n]))
            assert set(rated) == set(RATINGS) - {"malignancy"}
            assert all(1 <= value <= RATINGS[name] for name, value in rated.items())


def test_atypical_nodules_have_the_margin_of_the_other_class() -> None:
    looks = [[nodule_look(grade, (0, n), 0.3) for n in range(300)] for grade in (2, 4)]
    shares = [np.mean([look.margin == "spiculated" for look in group]) for group in looks]
    assert 0.2 < shares[0] < 0.4 < 0.6 < shares[1] < 0.8
    assert all(nodule_look(2, (0, n)).margin == "smooth" for n in range(20))
    plain, odd = nodule_look(5, (1, 1)), nodule_look(5, (1, 1), 1.0)
    assert (plain.texture, plain.diameter_mm) == (odd.texture, odd.diameter_mm)
