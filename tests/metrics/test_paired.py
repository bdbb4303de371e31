from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from medresnet3d.metrics.paired import holm, mean_interval, paired_test


def test_holm_by_hand() -> None:
    # sorted .01 .03 .04 times 3, 2, 1 is .03 .06 .04, and none may be below the one before
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_does_not_count_what_was_not_tested() -> None:
    adjusted = holm([0.02, math.nan, 0.01])
    assert adjusted[0] == pytest.approx(0.02) and math.isnan(adjusted[1]) and adjusted[2] == pytest.approx(0.02)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferroni_and_keeps_the_order(p: list[float]) -> None:
    adjusted = holm(p)
    assert all(
        one <= both + 1e-12 and both <= min(1, len(p) * one) + 1e-12 for one, both in zip(p, adjusted, strict=True)
    )
    order = sorted(range(len(p)), key=p.__getitem__)
    assert all(adjusted[a] <= adjusted[b] for a, b in pairwise(order))


def test_paired_test_by_hand_and_against_scipy() -> None:
    # differences 1, 2, 3: mean 2, deviation 1, t = 2 / (1 / sqrt 3) = 3.4641 with two degrees of freedom
    test = paired_test([2, 4, 6], [1, 2, 3])
    assert test.difference.value == 2 and test.pairs == 3
    assert test.p == pytest.approx(0.0741799, abs=1e-6)
    assert test.difference.high - 2 == pytest.approx(4.302653 / math.sqrt(3), abs=1e-5)
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 9))
    assert paired_test(a, b).p == pytest.approx(stats.ttest_rel(a, b).pvalue)


def test_pairs_with_a_failure_are_left_out() -> None:
    assert paired_test([2, 4, math.nan, 6], [1, 2, 5, 3]) == paired_test([2, 4, 6], [1, 2, 3])
    assert math.isnan(paired_test([2, math.nan], [1, 1]).p)


def test_constant_differences_are_no_certainty() -> None:
    assert paired_test([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]).p == 1
    assert paired_test([1.5, 2.5, 3.5], [1.0, 2.0, 3.0]).p == 0.25  # 2 of the 2^3 sign patterns are as extreme


def test_mean_interval_by_hand_and_with_shared_training_cases() -> None:
    estimate = mean_interval([1.0, 2.0, 3.0, math.nan])
    assert (estimate.value, estimate.n) == (2.0, 3)
    assert estimate.high - 2 == pytest.approx(4.302653 / math.sqrt(3), abs=1e-5)
    wider = mean_interval([1.0, 2.0, 3.0], overlap=0.25)
    assert (wider.high - 2) / (estimate.high - 2) == pytest.approx(math.sqrt((1 / 3 + 0.25) / (1 / 3)))
    assert math.isnan(mean_interval([1.0]).low) and math.isnan(mean_interval([]).value)


@pytest.mark.parametrize("seeds", [3, 5])
def test_equal_arms_are_called_different_in_at_most_one_comparison_of_twenty(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    rounds, arms, alarms = 600, 6, 0
    for _ in range(rounds):
        values = rng.normal(size=(arms + 1, seeds))
        alarms += min(holm([paired_test(own, values[0]).p for own in values[1:]])) < 0.05
    assert alarms / rounds < 0.05 + 3 * math.sqrt(0.05 * 0.95 / rounds)
