r"""The survey's four axes for optimisers, measured on functions small enough to see why.

The survey compares optimisers (after S. Ruder, An overview of gradient descent optimization algorithms,
arXiv:1609.04747) by robustness to the starting point, escape from saddle points, speed, and the effective learning
rate. Here each axis is a number on a toy function, with the rules of :mod:`medresnet3d.optimizers.rules`:

- robustness: the share of 64 random starts in :math:`[-2, 2]^2` from which the Rosenbrock function
  :math:`(1-x)^2 + 100 (y - x^2)^2` falls below 0.1 within 2000 steps, at the rule's best learning rate of a grid;
- saddle: steps until :math:`|y| > 1` on :math:`x^2 - y^2` from :math:`(1, 10^{-4})`, at 0.01 (AdaDelta: 1);
- speed: median over the same starts of the steps until the quadratic :math:`\tfrac12 (u^2 + 25 v^2)` falls below
  :math:`10^{-4}`, at the best learning rate of the grid; (u, v) is (x, y) turned by 30 degrees, since along the axes
  the rules with a rate for each number would have it too easy;
- effective rate: the size of an update divided by the size of the gradient, at 0.01 (AdaDelta: 1). The gradients are
  random numbers of standard deviation 1 for 200 steps and then 0.1, so that one sees whose rate recovers when gradients
  become small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medresnet3d.optimizers.rules import RULES

#: gd, sgd and mini_batch_gd are one rule, and there are no batches here.
AXES_RULES = ("gd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "adam")
GRID = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)
STARTS, ROBUSTNESS_STEPS, ROBUSTNESS_LEVEL = 64, 2000, 0.1
SADDLE_LIMIT, SPEED_LIMIT, SPEED_LEVEL = 5000, 1000, 1e-4
CALM_AFTER, RATE_STEPS, CALM = 200, 400, 0.1


@dataclass(frozen=True)
class AxesResult:
    """What one rule came to.

    Attributes:
        rule: its name.
        robustness: share of the starts from which the goal was reached.
        robustness_rate: the learning rate that this was at.
        saddle_steps: steps to leave the saddle; ``None``: not within the limit.
        speed_steps: median of the steps to the goal; ``None``: not within the limit.
        speed_rate: the learning rate that this was at.
        effective_rate: size of the update over size of the gradient at each step.
    """

    rule: str
    robustness: float
    robustness_rate: float
    saddle_steps: int | None
    speed_steps: int | None
    speed_rate: float
    effective_rate: list[float]


def toy_rate(rule: str) -> float:
    """Give the learning rate of the toys that have one for all: 0.01, and 1 for AdaDelta with its own scale."""
    return 1.0 if rule == "adadelta" else 0.01


def make_rule(rule: str, parameters: Sequence[Tensor], rates: Sequence[float]) -> torch.optim.Optimizer:
    """Make a rule of :data:`medresnet3d.optimizers.rules.RULES` for tensors that belong to no network.

    Args:
        rule: its name.
        parameters: the tensors.
        rates: the learning rate of each.
    """
    groups = [{"params": [one], "lr": rate} for one, rate in zip(parameters, rates, strict=True)]
    return RULES[rule].optimizer(groups, **RULES[rule].options)  # type: ignore[arg-type]


def saddle(point: Tensor) -> Tensor:
    """Give :math:`x^2 - y^2` of points (..., 2)."""
    return point[..., 0] ** 2 - point[..., 1] ** 2


def rosenbrock(point: Tensor) -> Tensor:
    """Give :math:`(1-x)^2 + 100 (y - x^2)^2` of points (..., 2)."""
    return (1 - point[..., 0]) ** 2 + 100 * (point[..., 1] - point[..., 0] ** 2) ** 2


def valley(point: Tensor) -> Tensor:
    r"""Give :math:`\tfrac12 (u^2 + 25 v^2)` of points (..., 2), where (u, v) is (x, y) turned by 30 degrees."""
    cosine, sine = math.cos(math.pi / 6), math.sin(math.pi / 6)
    u, v = cosine * point[..., 0] + sine * point[..., 1], cosine * point[..., 1] - sine * point[..., 0]
    return 0.5 * (u**2 + 25 * v**2)


def steps_until(
    rule: str,
    function: Callable[[Tensor], Tensor],
    start: Tensor,
    done: Callable[[Tensor], Tensor],
    limit: int,
    rates: Sequence[float],
) -> Tensor:
    """Follow a rule from many points and with many learning rates at once, each on its own, until each is done.

    Args:
        rule: its name. All rules here work on each number by itself, so the points do not disturb each other.
        function: what is minimised, of points (N, 2), float64.
        start: (N, 2).
        done: says of points (N, 2) which are done (N,).
        limit: largest number of steps.
        rates: the learning rates (R).

    Returns:
        The number of steps (R, N); ``limit + 1`` where it was not done by then.
    """
    points = [start.clone().double().requires_grad_() for _ in rates]
    optimizer = make_rule(rule, points, rates)
    steps = torch.full((len(rates), len(start)), limit + 1)
    for step in range(1, limit + 1):
        optimizer.zero_grad()
        function(torch.stack(points)).nan_to_num(0, 0, 0).sum().backward()
        optimizer.step()
        with torch.no_grad():
            steps[done(torch.stack(points)) & (steps > limit)] = step
        if bool((steps <= limit).all()):
            break
    return steps


def effective_rates(rule: str, width: int = 256, seed: int = 0) -> list[float]:
    """Give the size of the update over the size of the gradient for each step, over many numbers at once."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.zeros(width, dtype=torch.float64, requires_grad=True)
    optimizer = make_rule(rule, [values], [toy_rate(rule)])
    rates = []
    for step in range(RATE_STEPS):
        before = values.detach().clone()
        scale = 1.0 if step < CALM_AFTER else CALM
        values.grad = scale * torch.randn(width, generator=generator, dtype=torch.float64)
        optimizer.step()
        rates.append(float((values.detach() - before).norm() / values.grad.norm()))
    return rates


def measure(rule: str, seed: int = 0) -> AxesResult:
    """Measure all four axes of one rule.

    Args:
        rule: one of :data:`AXES_RULES`.
        seed: seed of the random starts and gradients.
    """
    starts = torch.rand(STARTS, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 4 - 2
    steps = steps_until(rule, rosenbrock, starts, _is_low(rosenbrock, ROBUSTNESS_LEVEL), ROBUSTNESS_STEPS, GRID)
    shares = (steps <= ROBUSTNESS_STEPS).double().mean(1)
    robust = int(shares.argmax())
    speeds = steps_until(rule, valley, starts, _is_low(valley, SPEED_LEVEL), SPEED_LIMIT, GRID).median(1).values
    fastest = int(speeds.argmin())
    return AxesResult(
        rule,
        float(shares[robust]),
        GRID[robust],
        saddle_steps(rule),
        int(speeds[fastest]) if speeds[fastest] <= SPEED_LIMIT else None,
        GRID[fastest],
        effective_rates(rule, seed=seed),
    )


def saddle_steps(rule: str) -> int | None:
    """Give the steps until a rule has left the saddle; ``None``: not within the limit."""
    start, rates = torch.tensor([[1.0, 1e-4]]), [toy_rate(rule)]
    steps = int(steps_until(rule, saddle, start, lambda point: point[..., 1].abs() > 1, SADDLE_LIMIT, rates))
    return steps if steps <= SADDLE_LIMIT else None


def _is_low(function: Callable[[Tensor], Tensor], level: float) -> Callable[[Tensor], Tensor]:
    return lambda point: function(point) < level
