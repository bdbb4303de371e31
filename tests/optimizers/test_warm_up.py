from __future__ import annotations

import pytest
import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from medresnet3d.errors import ConfigError
from medresnet3d.optimizers.adaptive_cosine import AdaptiveCosineLR
from medresnet3d.optimizers.lr_schedules import CosineDecayLR
from medresnet3d.optimizers.warm_up import WarmUpLR
from tests.optimizers.base import ScheduleSuite, advance, make_optimizer


class TestWarmUp(ScheduleSuite):
    sequential = False  # it rises to the rate that it finds when it is made

    def build(self, optimizer: Optimizer) -> LRScheduler:
        return WarmUpLR(CosineDecayLR(optimizer, 12), 5)

    def test_rises_in_equal_steps_to_where_the_schedule_begins(self) -> None:
        curve = [rate for (rate,) in self.curve(0.6)]
        assert curve[:6] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
        optimizer = make_optimizer(0.6)
        assert curve[5:] == [rate for (rate,) in advance(CosineDecayLR(optimizer, 12), optimizer, 25)]


class TestWarmUpOfOneCycle(ScheduleSuite):
    sequential = False  # torch's OneCycleLR takes other rates for its initial ones there

    def build(self, optimizer: Optimizer) -> LRScheduler:
        rates = [group["lr"] for group in optimizer.param_groups]
        return WarmUpLR(OneCycleLR(optimizer, rates, total_steps=26, cycle_momentum=False), 4)


def test_no_warm_up_changes_nothing() -> None:
    optimizer, other = make_optimizer(0.5), make_optimizer(0.5)
    plain = list(advance(CosineDecayLR(other, 12), other, 20))
    assert list(advance(WarmUpLR(CosineDecayLR(optimizer, 12), 0), optimizer, 20)) == plain


def test_observations_count_once_the_warm_up_is_over() -> None:
    optimizer = make_optimizer(0.5)
    schedule = WarmUpLR(AdaptiveCosineLR(optimizer, 50, patience=1), 3)
    assert not any(schedule.observe(value) for value in (0.5, 0.4, 0.3))
    list(advance(schedule, optimizer, 3))
    assert [schedule.observe(value) for value in (0.2, 0.1)] == [False, True]
    assert not WarmUpLR(CosineDecayLR(make_optimizer(0.5), 5), 1).observe(0.3)


def test_negative_warm_up_is_refused() -> None:
    with pytest.raises(ConfigError, match="warmup is -1"):
        WarmUpLR(CosineDecayLR(torch.optim.SGD([torch.zeros(1)], lr=0.1), 5), -1)
