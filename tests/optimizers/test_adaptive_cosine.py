from __future__ import annotations

from typing import Any

import pytest
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, LRScheduler

from medresnet3d.errors import ConfigError
from medresnet3d.optimizers.adaptive_cosine import AdaptiveCosineLR
from tests.optimizers.base import ScheduleSuite, advance, make_optimizer


class TestAdaptiveCosine(ScheduleSuite):
    sequential = False  # its cycles are a state, not a function of the step

    def build(self, optimizer: Optimizer) -> LRScheduler:
        return AdaptiveCosineLR(optimizer, 8, period_factor=1.5)


def test_without_a_metric_and_with_equal_peaks_it_is_sgdr() -> None:
    ours, theirs = make_optimizer(0.5), make_optimizer(0.5)
    mine = AdaptiveCosineLR(ours, 5, peak_factor=1.0, period_factor=2.0, min_lr=0.01)
    oracle = CosineAnnealingWarmRestarts(theirs, 5, 2, 0.01)
    for (rate,), (expected,) in zip(advance(mine, ours, 40), advance(oracle, theirs, 40), strict=True):
        assert rate == pytest.approx(expected)


def test_peaks_and_lengths_are_those_of_the_formula() -> None:
    optimizer = make_optimizer(0.8)
    schedule = AdaptiveCosineLR(optimizer, 4, peak_factor=0.5, period_factor=2.0)
    curve = [rate for (rate,) in advance(schedule, optimizer, 28)]
    peaks = [step for step in range(1, 28) if curve[step] > curve[step - 1]]
    assert peaks == [4, 12]
    assert [curve[step] for step in (0, 4, 12, 28)] == pytest.approx([0.8, 0.4, 0.2, 0.1])
    assert curve[2] == pytest.approx(0.4) and curve[8] == pytest.approx(0.2)


@pytest.mark.parametrize("mode", ["max", "min"])
def test_a_plateau_ends_the_cycle(mode: str) -> None:
    sign = 1 if mode == "max" else -1
    optimizer = make_optimizer(0.8)
    schedule = AdaptiveCosineLR(optimizer, 100, patience=2, mode=mode)
    list(advance(schedule, optimizer, 10))
    ended = [schedule.observe(sign * value) for value in (0.1, 0.2, 0.2, 0.3, 0.25)]
    assert not any(ended)
    assert optimizer.param_groups[0]["lr"] < 0.8
    assert schedule.observe(sign * 0.3)
    assert [rate for (rate,) in advance(schedule, optimizer, 1)][1] == pytest.approx(0.4)
    assert not schedule.observe(sign * 0.3)  # it waits anew after a restart


def test_a_resumed_schedule_remembers_what_it_observed() -> None:
    first = AdaptiveCosineLR(make_optimizer(0.8), 100, patience=2)
    first.observe(0.5)
    first.observe(0.4)
    second = AdaptiveCosineLR(make_optimizer(0.8), 100, patience=2)
    second.load_state_dict(first.state_dict())
    assert second.observe(0.4) and first.observe(0.4)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"period": 0}, "has period 0"), ({"peak_factor": 0}, "peak_factor 0"), ({"mode": "up"}, "mode .* 'up'")],
)
def test_out_of_range(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        AdaptiveCosineLR(make_optimizer(0.1), **{"period": 5, **options})
