"""TensorFlow 1's decays; the figures are computed from the formulas of its documentation for an initial rate of 0.5."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from medresnet3d.errors import ConfigError
from medresnet3d.optimizers.lr_schedules import (
    ConstantRateLR,
    CosineDecayLR,
    ExponentialDecayLR,
    InverseTimeDecayLR,
    LinearCosineDecayLR,
    NaturalExponentialDecayLR,
    NoisyLinearCosineDecayLR,
    PiecewiseConstantLR,
    PolynomialDecayLR,
)
from tests.optimizers.base import ClosedFormSuite, advance, make_optimizer


class TestConstant(ClosedFormSuite):
    def build(self, optimizer: Optimizer) -> LRScheduler:
        return ConstantRateLR(optimizer)


class TestPiecewiseConstant(ClosedFormSuite):
    def build(self, optimizer: Optimizer) -> LRScheduler:
        return PiecewiseConstantLR(optimizer, [4, 12], [0.5, 0.1, 0.02])

    def test_a_boundary_belongs_to_what_is_before_it(self) -> None:
        curve = [rate for (rate,) in self.curve(0.5)]
        assert curve == [0.5] * 5 + [0.1] * 8 + [0.02] * 18

    def test_malformed(self) -> None:
        with pytest.raises(ConfigError, match="2 boundaries and 2 values"):
            PiecewiseConstantLR(make_optimizer(1.0), [1, 2], [1.0, 0.5])
        with pytest.raises(ConfigError, match=r"\[2, 1\]; they must increase"):
            PiecewiseConstantLR(make_optimizer(1.0), [2, 1], [1.0, 0.5, 0.1])


class TestPolynomial(ClosedFormSuite):
    def build(self, optimizer: Optimizer) -> LRScheduler:
        return PolynomialDecayLR(optimizer, 20, 0.01, 0.5)


class TestPolynomialCycle(ClosedFormSuite):
    def build(self, optimizer: Optimizer) -> LRScheduler:
        return PolynomialDecayLR(optimizer, 12, 0.01, 0.5, cycle=True)


class TestExponential(ClosedFormSuite):
    def build(self, optimizer: Optimizer) -> LRScheduler:
        return ExponentialDecayLR(optimizer, 5, 0.9)


class TestExponentialStaircase(ClosedFormSuite):
    def build(self, optimizer: Optimizer) -> LRScheduler:
        return ExponentialDecayLR(optimizer, 5, 0.9, staircase=True)


class TestInverseTime(ClosedFormSuite):
    def build(self, optimizer: Optimizer) -> LRScheduler:
        return InverseTimeDecayLR(optimizer, 5, 0.5)


class TestInverseTimeStaircase(ClosedFormSuite):
    def build(self, optimizer: Optimizer) -> LRScheduler:
        return InverseTimeDecayLR(optimizer, 5, 0.5, staircase=True)


class TestNaturalExponential(ClosedFormSuite):
    def build(self, optimizer: Optimizer) -> LRScheduler:
        return NaturalExponentialDecayLR(optimizer, 5, 0.9)


class TestNaturalExponentialStaircase(ClosedFormSuite):
    def build(self, optimizer: Optimizer) -> LRScheduler:
        return NaturalExponentialDecayLR(optimizer, 5, 0.9, staircase=True)


class TestCosine(ClosedFormSuite):
    def build(self, optimizer: Optimizer) -> LRScheduler:
        return CosineDecayLR(optimizer, 20, 0.1)

    def test_equals_torchs_until_its_end_and_stays_there(self) -> None:
        optimizer = make_optimizer(0.5)
        oracle = [rate for (rate,) in advance(CosineAnnealingLR(optimizer, 20, 0.05), optimizer, 30)]
        curve = [rate for (rate,) in self.curve(0.5)]
        assert curve[:21] == pytest.approx(oracle[:21])
        assert curve[20:] == pytest.approx([0.05] * 11)
        assert oracle[30] > 0.2


class TestLinearCosine(ClosedFormSuite):
    def build(self, optimizer: Optimizer) -> LRScheduler:
        return LinearCosineDecayLR(optimizer, 20)


class TestNoisyLinearCosine(ClosedFormSuite):
    def build(self, optimizer: Optimizer) -> LRScheduler:
        return NoisyLinearCosineDecayLR(optimizer, 20, initial_variance=0.01, beta=0.1)


POLY = {"decay_steps": 50, "end_learning_rate": 0.01, "power": 0.5}
LINE = {"decay_steps": 100, "end_learning_rate": 0.01}
VALUES: list[tuple[type[LRScheduler], dict[str, Any], dict[int, float]]] = [
    (PolynomialDecayLR, POLY, {0: 0.5, 25: 0.356482, 49: 0.079296, 50: 0.01, 51: 0.01, 400: 0.01}),
    (
        PolynomialDecayLR,
        {**POLY, "cycle": True},
        {0: 0.5, 25: 0.356482, 50: 0.01, 51: 0.353, 75: 0.255, 100: 0.01, 101: 0.290058, 150: 0.01},
    ),
    (PolynomialDecayLR, LINE, {50: 0.255, 100: 0.01, 101: 0.01}),
    (PolynomialDecayLR, {**LINE, "cycle": True}, {101: 0.25255, 150: 0.1325, 200: 0.01, 201: 0.1717}),
    (ExponentialDecayLR, {"decay_steps": 50, "decay_rate": 0.9}, {50: 0.45, 100: 0.405, 400: 0.215234}),
    (
        ExponentialDecayLR,
        {"decay_steps": 50, "decay_rate": 0.9, "staircase": True},
        {49: 0.5, 50: 0.45, 99: 0.45, 100: 0.405},
    ),
    (NaturalExponentialDecayLR, {"decay_steps": 50, "decay_rate": 0.9}, {50: 0.203285, 100: 0.082649, 400: 0.000373}),
    (
        NaturalExponentialDecayLR,
        {"decay_steps": 50, "decay_rate": 0.9, "staircase": True},
        {49: 0.5, 50: 0.203285, 99: 0.203285},
    ),
    (InverseTimeDecayLR, {"decay_steps": 50, "decay_rate": 0.5}, {50: 0.333333, 100: 0.25, 400: 0.1}),
    (
        InverseTimeDecayLR,
        {"decay_steps": 50, "decay_rate": 0.5, "staircase": True},
        {49: 0.5, 50: 0.333333, 99: 0.333333},
    ),
    (CosineDecayLR, {"decay_steps": 400}, {0: 0.5, 100: 0.426777, 200: 0.25, 300: 0.073223, 400: 0.0, 500: 0.0}),
    (
        LinearCosineDecayLR,
        {"decay_steps": 400},
        {0: 0.5005, 100: 0.320583, 200: 0.1255, 300: 0.018806, 400: 0.0005, 500: 0.0005},
    ),
]


@pytest.mark.parametrize(("schedule", "options", "values"), VALUES)
def test_values_of_tensorflow(schedule: Any, options: dict[str, Any], values: dict[int, float]) -> None:
    optimizer = make_optimizer(0.5)
    curve = [rate for (rate,) in advance(schedule(optimizer, **options), optimizer, max(values))]
    assert {step: curve[step] for step in values} == pytest.approx(values, abs=6e-7)


def test_noise_has_the_variance_of_tensorflow() -> None:
    noisy = NoisyLinearCosineDecayLR(make_optimizer(0.5), 1000, num_periods=0.2, alpha=0.5, beta=0.2)
    plain = LinearCosineDecayLR(make_optimizer(0.5), 1000, num_periods=0.2, alpha=0.5, beta=0.2)
    assert [noisy.noise_std(step) for step in (0, 1, 100, 400)] == pytest.approx(
        [1, 0.826450, 0.281068, 0.192369], abs=6e-7
    )
    draws = np.array([noisy.noise(step) / noisy.noise_std(step) for step in range(1000)])
    assert abs(draws.mean()) < 0.1 and draws.std() == pytest.approx(1, abs=0.1)
    assert abs(np.corrcoef(draws[1:], draws[:-1])[0, 1]) < 0.1
    assert noisy.rate(100, 0.5) != plain.rate(100, 0.5)


def test_one_standard_deviation_of_noise_at_step_100(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = NoisyLinearCosineDecayLR(make_optimizer(0.5), 400)
    monkeypatch.setattr(schedule, "noise", schedule.noise_std)
    assert schedule.rate(100, 0.5) == pytest.approx(0.440536, abs=6e-7)


def test_noise_is_cut_off_at_the_floor_and_its_seed_counts() -> None:
    free, floored, other = (
        [
            NoisyLinearCosineDecayLR(make_optimizer(0.5), 50, **options).rate(step, 0.5)  # type: ignore[arg-type]
            for step in range(60)
        ]
        for options in ({"min_lr": -math.inf}, {}, {"seed": 1})
    )
    assert min(free) < 0
    assert floored == [max(0.0, rate) for rate in free]
    assert other != floored
    assert len(set(free[50:])) == 1  # the cosine that the noise is multiplied with is 0 at the end of half a period


def test_noise_goes_on_after_the_end_where_the_cosine_is_not_zero() -> None:
    schedule = NoisyLinearCosineDecayLR(make_optimizer(0.5), 50, num_periods=0.2, beta=5.0)
    assert len({schedule.rate(step, 0.5) for step in range(50, 60)}) == 10
    assert schedule.noise_std(60) == schedule.noise_std(50) < schedule.noise_std(49)


def test_noise_cut_off_in_a_chain_begins_from_its_own_value_again() -> None:
    optimizer = make_optimizer(0.5)
    schedule = NoisyLinearCosineDecayLR(optimizer, 50)
    curve = [rate for (rate,) in advance(schedule, optimizer, 49)]
    assert 0.0 in curve[:-1] and curve == [schedule.rate(step, 0.5) for step in range(50)]


@given(
    initial=st.floats(1e-6, 10),
    steps=st.integers(1, 500),
    end=st.floats(0, 1),
    power=st.floats(0.2, 4),
)
def test_decays_fall_from_the_initial_rate_to_their_floor(initial: float, steps: int, end: float, power: float) -> None:
    floor = end * initial
    for schedule, lowest in (
        (PolynomialDecayLR(make_optimizer(initial), steps, floor, power), floor),
        (CosineDecayLR(make_optimizer(initial), steps, end), floor),
        (ExponentialDecayLR(make_optimizer(initial), steps, 0.5), 0.0),
        (NaturalExponentialDecayLR(make_optimizer(initial), steps, power), 0.0),
        (InverseTimeDecayLR(make_optimizer(initial), steps, power), 0.0),
    ):
        curve = [schedule.rate(step, initial) for step in range(0, 2 * steps + 1, max(1, steps // 20))]
        assert curve[0] == pytest.approx(initial)
        assert all(after <= before * (1 + 1e-12) for before, after in pairwise(curve))
        assert curve[-1] >= lowest * (1 - 1e-12)


@given(steps=st.integers(1, 60), rate=st.floats(0.05, 0.95))
def test_stairs_touch_the_smooth_curve_at_each_multiple(steps: int, rate: float) -> None:
    for schedule in (ExponentialDecayLR, NaturalExponentialDecayLR, InverseTimeDecayLR):
        smooth, stairs = (schedule(make_optimizer(0.5), steps, rate, staircase=each) for each in (False, True))
        for step in range(0, 4 * steps):
            assert stairs.rate(step, 0.5) == pytest.approx(smooth.rate(step - step % steps, 0.5))


@pytest.mark.parametrize("schedule", [PolynomialDecayLR, CosineDecayLR, LinearCosineDecayLR, NoisyLinearCosineDecayLR])
def test_decay_over_no_steps_is_refused(schedule: Any) -> None:
    with pytest.raises(ConfigError, match="decay_steps is 0"):
        schedule(make_optimizer(0.5), 0)


def test_a_rate_given_absolutely_keeps_to_a_first_group_of_rate_zero() -> None:
    schedule = PiecewiseConstantLR(make_optimizer(0.0, 0.1), [2], [0.0, 0.5])
    assert schedule.rate(3, 0.1) == 0.5
    assert not torch.is_tensor(schedule.rate(3, 0.1))
