from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medresnet3d.io.rescale import rescale


def test_nothing_to_do_gives_the_same_object() -> None:
    array = np.arange(5, dtype=np.uint16)
    assert rescale(array, 1, 0) is array


@given(
    values=st.lists(st.integers(0, 65535), min_size=1, max_size=20),
    slope=st.sampled_from([1.0, 0.5, 2.0, 0.001]),
    intercept=st.sampled_from([0.0, -1024.0, 40000.0, -70000.0, 0.5]),
)
def test_values_are_right_whatever_the_type(values: list[int], slope: float, intercept: float) -> None:
    stored = np.array(values, dtype=np.uint16)
    result = rescale(stored, slope, intercept)
    np.testing.assert_allclose(result, stored.astype(float) * slope + intercept, rtol=1e-6, atol=0.01)


@pytest.mark.parametrize(
    "stored,intercept,kind",
    [
        (np.array([0, 4095], np.uint16), -1024, np.int16),
        (np.array([0, 65535], np.uint16), -1024, np.int32),
        (np.array([-32768], np.int16), -1, np.int32),
        (np.array([32767], np.uint16), -60000, np.int32),
        (np.array([0], np.uint16), 0.5, np.float32),
        (np.array([2**31 - 1], np.int32), 1, np.float32),
        (np.array([1.0]), 0.5, np.float64),
    ],
)
def test_smallest_type(stored: np.ndarray, intercept: float, kind: Any) -> None:
    assert rescale(stored, 1, intercept).dtype == kind


def test_other_byte_order_becomes_native() -> None:
    result = rescale(np.array([1, 2], ">i2"), 1, 0)
    assert result.dtype.isnative
    assert result.tolist() == [1, 2]


@pytest.mark.parametrize("kind", [np.int16, np.uint16, np.uint8])
def test_an_array_may_be_reused_for_the_result(kind: Any) -> None:
    stored = np.arange(100, 200).astype(kind)
    kept = stored.copy()
    assert np.array_equal(rescale(stored, 1, -1024.0), kept - np.int64(1024))
    assert np.array_equal(stored, kept)
    result = rescale(stored, 1, -1024.0, limits=(100, 199), reuse=True)
    assert np.array_equal(result, kept - np.int64(1024))
    assert np.shares_memory(result, stored) == (stored.itemsize == 2)
