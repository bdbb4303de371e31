from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medresnet3d.data.checking.outliers import MEAN, RANGE, SHALLOW, limits_of

SPACING = next(measure for measure in SHALLOW if measure.key == "spacing_k")


def test_limits_are_three_interquartile_ranges_beyond_the_quartiles() -> None:
    values = np.arange(1.0, 102.0)
    limits = limits_of(values, MEAN, 0.0)
    assert limits is not None
    assert (limits.low, limits.median, limits.high) == (0.0, 51.0, 76.0 + 3 * 50)  # of values above 0 none is below
    limits = limits_of(values - 60, MEAN, 0.0)
    assert limits is not None and limits.low == 26 - 60 - 3 * 50


def test_equal_values_leave_the_tolerance() -> None:
    limits = limits_of(np.full(20, 2.5), SPACING, 0.0)
    assert limits is not None
    assert limits.low == pytest.approx(2.5 / 1.2) and limits.high == pytest.approx(2.5 * 1.2)
    assert limits.outside(np.array([2.0, 2.4, np.nan, 3.1])).tolist() == [True, False, False, True]
    limits = limits_of(np.full(20, 100.0), MEAN, 40.0)
    assert limits is not None and (limits.low, limits.high) == (90.0, 110.0)


def test_a_few_are_too_few() -> None:
    assert limits_of(np.full(7, 1.0), SPACING, 0.0) is None
    assert limits_of(np.full(9, np.nan), SPACING, 0.0) is None
    assert limits_of(np.zeros(9), RANGE, 0.0) is None


@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_ratios_do_not_depend_on_the_unit(scale: float, seed: int) -> None:
    values = np.random.default_rng(seed).lognormal(0, 0.2, 50)
    first, second = limits_of(values, RANGE, 0.0), limits_of(values * scale, RANGE, 0.0)
    assert first is not None and second is not None
    assert second.low == pytest.approx(first.low * scale) and second.high == pytest.approx(first.high * scale)
