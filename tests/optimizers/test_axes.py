from __future__ import annotations

import pytest
import torch

from medresnet3d.optimizers import axes
from medresnet3d.optimizers.axes import AXES_RULES, CALM_AFTER, effective_rates, saddle_steps, steps_until, valley


@pytest.mark.parametrize(
    ("rule", "steps"),
    [
        ("rmsprop", 17),
        ("adadelta", 33),
        ("adam", 77),
        ("nesterov", 89),
        ("momentum", 95),
        ("gd", 466),
        ("adagrad", 1263),
    ],
)
def test_steps_to_leave_the_saddle(rule: str, steps: int) -> None:
    assert saddle_steps(rule) == steps


def test_gradient_descent_on_the_valley_by_hand() -> None:
    # along u the error shrinks by 0.99 a step, so u = 1 falls to 0.5 u^2 < 1e-4 when 0.99^t < sqrt(2e-4): t = 424
    cosine, sine = torch.cos(torch.tensor(torch.pi / 6)), torch.sin(torch.tensor(torch.pi / 6))
    start = torch.stack([cosine, sine])[None].double()
    steps = steps_until("gd", valley, start, lambda point: valley(point) < 1e-4, 1000, [0.01, 1e-9])
    assert steps.tolist() == [[424], [1001]]


def test_points_and_rates_do_not_disturb_each_other() -> None:
    starts = torch.tensor([[1.0, 0.5], [-1.5, 2.0]], dtype=torch.float64)

    def done(point: torch.Tensor) -> torch.Tensor:
        return valley(point) < 1e-2

    together = steps_until("adam", valley, starts, done, 600, [0.1, 0.03])
    for column, start in enumerate(starts):
        for row, rate in enumerate([0.1, 0.03]):
            assert steps_until("adam", valley, start[None], done, 600, [rate]) == together[row, column]


def test_adagrads_rate_only_falls_and_rmsprops_recovers() -> None:
    rates = {rule: torch.tensor(effective_rates(rule)) for rule in ("gd", "adagrad", "rmsprop")}
    assert torch.allclose(rates["gd"], torch.tensor(0.01))
    smooth = rates["adagrad"].unfold(0, 20, 20).mean(1)
    assert bool((smooth[:10].diff() < 0).all())
    assert smooth[-1] < 1.01 * smooth[9]  # gradients ten times smaller do not bring it back
    before, after = rates["rmsprop"][CALM_AFTER - 20 : CALM_AFTER].mean(), rates["rmsprop"][-20:].mean()
    assert after > 2 * before


@pytest.mark.slow
def test_every_rule_is_measured() -> None:
    for rule in AXES_RULES:
        result = axes.measure(rule)
        assert 0 < result.robustness <= 1
        assert result.speed_steps is not None and result.saddle_steps == saddle_steps(rule)
