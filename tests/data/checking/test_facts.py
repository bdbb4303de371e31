from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medresnet3d.data.checking import facts
from medresnet3d.data.checking.facts import image_facts, label_counts, voxel_digest
from medresnet3d.io import Source, Volume
from tests.data.checking.cohorts import SHAPE, affine_of, body


def volume(array: np.ndarray, **changes: object) -> Volume:
    return replace(Volume(array, affine_of()), **changes)  # type: ignore[arg-type]


def test_what_is_known_of_a_scan() -> None:
    array = body(1)
    known = image_facts(volume(array, modality="CT"), ct=True, deep=True)
    assert (known.size, known.spacing, known.orientation, known.dims) == (SHAPE, (0.8, 0.8, 2.5), "RAS", 3)
    assert (known.dtype, known.components, known.modality, known.hounsfield) == ("int16", 1, "CT", "units")
    assert known.values is not None
    expected = np.percentile(array, (0, 0.5, 5, 25, 50, 75, 95, 99.5, 100))
    np.testing.assert_allclose(list(known.values.values())[:9], expected)
    assert known.values["mean"] == pytest.approx(array.mean()) and known.values["std"] == pytest.approx(array.std())


def test_a_header_says_nothing_of_values() -> None:
    known = image_facts(volume(body(1)), ct=True, deep=False)
    assert known.values is None and known.hounsfield is None and known.size == SHAPE


def test_a_picture_has_no_place_and_no_spacing() -> None:
    colour = np.zeros((30, 20, 1, 3), np.uint8)
    known = image_facts(volume(colour, source=Source(format="image")), ct=False, deep=False)
    assert (known.orientation, known.spacing, known.dims, known.components) == (None, None, 2, 3)
    assert known.row()["spacing_i"] is None and known.row()["k"] == 1


def test_a_large_image_is_judged_by_a_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "SAMPLE", 2000)
    array = np.random.default_rng(0).normal(100, 10, (40, 50, 60))
    array[7, 7, 7], array[3, 3, 3] = 1e4, -1e4
    known = image_facts(volume(array), ct=False, deep=True)
    assert known.values is not None
    assert known.values["low"] == -1e4 and known.values["high"] == 1e4
    assert known.values["p50"] == pytest.approx(100, abs=1) and known.values["mean"] == pytest.approx(100, abs=1)


def test_labels_are_counted_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "CHUNK", 7)
    labels = np.asfortranarray(np.random.default_rng(0).integers(0, 4, (5, 6, 7)))
    values, counts = np.unique(labels, return_counts=True)
    assert label_counts(labels) == dict(zip(values.tolist(), counts.tolist(), strict=True))
    monkeypatch.setattr(facts, "MOST_LABELS", 20)
    assert 20 < len(label_counts(np.arange(1000.0))) < 40


def test_the_digest_is_of_voxels_whatever_their_order_in_memory() -> None:
    array = body(1)
    same = voxel_digest([volume(array)])
    assert voxel_digest([volume(np.asfortranarray(array))]) == same
    assert voxel_digest([volume(array, affine=np.eye(4))]) == same
    for other in (array[::-1], array.reshape(SHAPE[::-1]), array + 1):
        assert voxel_digest([volume(other)]) != same
