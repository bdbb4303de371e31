from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medresnet3d.errors import GeometryError
from medresnet3d.io.dicom_grid import Grid, Regrid, regular_grid


def grid(along: Any, *, strict: bool = False) -> tuple[Grid, list[str]]:
    warnings: list[str] = []
    along = np.asarray(along, dtype=float)
    places = [f"{index}.dcm" for index in range(len(along))]
    return regular_grid(along, 100.0, places, "scan", strict=strict, warnings=warnings), warnings


def test_regular_slices_are_the_grid() -> None:
    found, warnings = grid([0, 2.5, 5, 7.5])
    assert (found.spacing, found.count, found.regular, warnings) == (2.5, 4, True, [])


def test_small_jitter_is_told_and_kept() -> None:
    found, warnings = grid([0, 2.6, 5, 7.5])
    assert found.regular
    assert warnings == ["The distances between slices vary from 2.400 to 2.600 mm; a regular 2.500 mm was assumed."]


def test_slices_between_missing_ones_keep_their_place() -> None:
    found, warnings = grid([0, 2.5, 10, 12.5, 15, 17.5])
    np.testing.assert_allclose(found.index, [0, 1, 4, 5, 6, 7])
    assert (found.spacing, found.count) == (2.5, 8)
    assert warnings[0].startswith("2 slices are missing: between 102.50 and 110.00 mm along the slice normal")


@pytest.mark.parametrize("along", [[0, 1, 3.3, 7.7], [0, 2.5, 5, 7.5, 100]])
def test_a_grid_has_at_most_twice_as_many_slices(along: list[float]) -> None:
    found, _ = grid(along)
    assert found.count == 2 * len(along)
    assert found.spacing == pytest.approx(along[-1] / (found.count - 1))
    with pytest.raises(GeometryError, match="scan: "):
        grid(along, strict=True)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.3, 9.0), min_size=2, max_size=12))
def test_a_grid_spans_the_slices(distances: list[float]) -> None:
    along = np.concatenate([[0.0], np.cumsum(distances)])
    found, warnings = grid(along)
    assert found.index[0] == 0 and (np.diff(found.index) > 0).all()
    assert found.index[-1] == pytest.approx(found.count - 1)
    assert found.spacing * (found.count - 1) == pytest.approx(along[-1])
    assert found.regular or warnings


def linear(columns: int, rows: int, slices: NDArray[np.float64]) -> NDArray[np.float32]:
    i, j = np.indices((columns, rows))
    return (3 * i[..., None] + 5 * j[..., None] + 7 * slices).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(
    gaps=st.lists(st.floats(0.3, 3.0), min_size=1, max_size=6),
    slope=st.tuples(st.floats(-0.15, 0.15), st.floats(-0.15, 0.15)),
    whole=st.booleans(),
)
def test_linear_functions_stay(gaps: list[float], slope: tuple[float, float], whole: bool) -> None:
    """Slices cut from a linear function, each shifted in its plane, give that function back."""
    index = np.concatenate([[0.0], np.cumsum(gaps)])
    index *= np.ceil(index[-1]) / index[-1]
    shift = np.outer(index, slope)
    shift = np.rint(shift) if whole else shift
    low, high = np.floor(shift.min(axis=0) + 1e-6), np.ceil(shift.max(axis=0) - 1e-6)
    shape = (6 + int(high[0] - low[0]), 7 + int(high[1] - low[1]), int(index[-1]) + 1)
    planes = linear(6, 7, np.zeros(len(index)))
    planes += (3 * shift[:, 0] + 5 * shift[:, 1] + 7 * index).astype(np.float32)
    out = Regrid(shape, index, shift - low).apply(planes, padding=-9999)
    assert out.shape == shape and out.flags.f_contiguous
    expected = linear(shape[0], shape[1], np.arange(shape[2], dtype=float)) + 3 * low[0] + 5 * low[1]
    inside = np.ones(shape, bool)  # of every slice, and so between any two of them
    for axis, size in enumerate((6, 7)):
        place = np.indices(shape)[axis] + low[axis]
        inside &= (place >= shift[:, axis].max()) & (place <= shift[:, axis].min() + size - 1)
    assert inside.any()
    np.testing.assert_allclose(out[inside], expected[inside], atol=1e-3)


def test_whole_numbers_are_rounded_and_types_kept() -> None:
    array = np.stack([np.full((2, 2), 1), np.full((2, 2), 4)], axis=2).astype(np.int16)
    out = Regrid((2, 2, 3), np.array([0.0, 2.0]), np.zeros((2, 2))).apply(array)
    assert out.dtype == np.int16
    assert out[0, 0].tolist() == [1, 2, 4]


def test_large_whole_numbers_stay_exact() -> None:
    array = np.full((2, 2, 2), 2**31 - 1, np.int32)
    out = Regrid((2, 2, 3), np.array([0.0, 2.0]), np.zeros((2, 2))).apply(array)
    assert (out == 2**31 - 1).all()


def test_uncovered_places_get_the_smallest_value_or_the_padding() -> None:
    array = np.arange(5, 13, dtype=np.int16).reshape(2, 2, 2)
    regrid = Regrid((2, 3, 2), np.array([0.0, 1.0]), np.array([[0.0, 0.0], [0.0, 1.0]]))
    assert regrid.apply(array)[:, 2, 0].tolist() == [5, 5]
    assert regrid.apply(array, padding=-1)[:, 0, 1].tolist() == [-1, -1]
