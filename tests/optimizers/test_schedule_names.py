from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from medresnet3d.errors import ConfigError
from medresnet3d.optimizers import RULES, SCHEDULES, build_lr_scheduler, build_optimizer, schedule_curve
from medresnet3d.optimizers.schedule_names import _DEFAULTS
from tests.optimizers.base import STEPS, ScheduleSuite, make_optimizer

ENDS = {
    "constant": 1.0,
    "one_cycle": 4e-6,
    "piecewise_constant": 0.01,
    "polynomial": 0.01,
    "exponential": 0.01,
    "inverse_time": 0.1,
    "natural_exp": 0.001,
    "cosine": 0.0,
    "linear_cosine": 0.001,
    "noisy_linear_cosine": 0.001,
    "adaptive_cosine": 0.0,
}


class TestOneCycle(ScheduleSuite):
    sequential = False  # torch's OneCycleLR takes other rates for its initial ones there

    def build(self, optimizer: Optimizer) -> LRScheduler:
        return build_lr_scheduler(optimizer, "one_cycle", STEPS + 1)


def test_every_schedule_has_defaults_and_an_end() -> None:
    assert set(SCHEDULES) == set(_DEFAULTS) == set(ENDS)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup", [0, 50])
def test_defaults_follow_from_the_number_of_steps(name: str, warmup: int) -> None:
    curve = schedule_curve(name, 0.5, 1000, warmup=warmup)
    assert len(curve) == 1000
    assert curve[-1] == pytest.approx(0.5 * ENDS[name], abs=0.006)
    assert curve[-1] <= max(curve)
    if name != "noisy_linear_cosine":
        assert max(curve) <= 0.5 * 1.001
    if warmup:
        first = schedule_curve(name, 0.5, 950)
        assert curve[:50] == pytest.approx([first[0] * (step + 1) / 51 for step in range(50)])
        assert curve[50:] == first


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_the_shortest_trainings(name: str, steps: int) -> None:
    assert len(schedule_curve(name, 0.1, steps)) == steps


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("rule", RULES)
def test_every_schedule_drives_every_rule(name: str, rule: str) -> None:
    network = torch.nn.Linear(2, 1)
    optimizer = build_optimizer(network, rule, 0.1)
    schedule = build_lr_scheduler(optimizer, name, 4, warmup=1)
    for _ in range(4):
        optimizer.zero_grad()
        network(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        schedule.step()


def test_one_cycle_is_torchs_and_moves_a_momentum_only_where_there_is_one() -> None:
    network = torch.nn.Linear(2, 1)
    optimizer, other = build_optimizer(network, "adamw", 0.1), torch.optim.AdamW(network.parameters(), 0.1)
    schedule, oracle = (
        build_lr_scheduler(optimizer, "one_cycle", 40, pct_start=0.05),
        OneCycleLR(other, 0.1, 40, pct_start=0.05),
    )
    for _ in range(40):
        assert schedule.get_last_lr()[0] == oracle.get_last_lr()[0]
        assert optimizer.param_groups[1]["betas"] == other.param_groups[0]["betas"]
        optimizer.step(), other.step()
        schedule.step(), oracle.step()
    plain = build_optimizer(network, "sgd", 0.1)
    build_lr_scheduler(plain, "one_cycle", 20)
    assert plain.param_groups[0]["momentum"] == 0
    heavy = build_optimizer(network, "momentum", 0.1)
    build_lr_scheduler(heavy, "one_cycle", 20)
    assert heavy.param_groups[0]["momentum"] == 0.95


def test_one_cycle_may_rise_in_a_single_step() -> None:
    """torch's own class divides by zero there."""
    curve = schedule_curve("one_cycle", 0.5, 20, pct_start=0.05)
    assert curve[0] == pytest.approx(0.02) and curve[1] == pytest.approx(0.5, rel=0.02)
    assert all(after < before for before, after in pairwise(curve[1:]))


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        (
            "cosin",
            {},
            r"Learning-rate schedule 'cosin' is unknown; choose one of .*adaptive_cosine.*Did you mean 'cosine'",
        ),
        ("cosine", {"power": 2}, "'cosine' has no option 'power'; it takes alpha, decay_steps"),
        ("cosine", {"warmup": 10}, "10 steps, 10 of them warm-up"),
        ("cosine", {"decay_steps": "many"}, "'cosine' cannot be made: "),
        ("one_cycle", {"pct_start": 2.0}, "'one_cycle' cannot be made: "),
    ],
)
def test_wrong_names_and_values(name: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build_lr_scheduler(make_optimizer(0.1), name, 10, **options)
