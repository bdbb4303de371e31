r"""The survey's four axes for optimisers, measured on functions small enough to see why.

The survey compares optimisers (after S. Ruder, An overview of gradient descent optimization algorithms,
arXiv:1609.04747) by robustness to the starting point, escape from saddle points, speed, and the effective learning
rate. Here each axis is a number on a toy function, with the rules of :mod:`medresnet3d.optimizers.rules`:

- robustness: the share of 64 random starts in :math:`[-2, 2]^2` from which the Rosenbrock function
  :math:`(1-x)^2 + 100 (y - x^2)^2` falls below 0.1 within 2000 steps;
- saddle: steps until :math:`|y| > 1` on :math:`x^2 - y^2` from :math:`(1, 10^{-4})`;
- speed: steps until the quadratic :math:`\tfrac12 (x^2 + 25 y^2)` falls below :math:`10^{-4}` from (1, 1);
- effective rate: the size of an update divided by the size of the gradient. The gradients are random numbers of
  standard deviation 1 for 200 steps and then 0.1, so that one sees whose rate recovers when gradients become small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from medresnet3d.optimizers.rules import RULES

#: gd, sgd and mini_batch_gd are one rule, and there are no batches here.
AXES_RULES = ("gd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "adam")
STARTS, ROBUSTNESS_STEPS, ROBUSTNESS_LEVEL = 64, 2000, 0.1
SADDLE_LIMIT, SPEED_LIMIT, SPEED_LEVEL = 5000, 20000, 1e-4
CALM_AFTER, RATE_STEPS, CALM = 200, 400, 0.1


@dataclass(frozen=True)
class AxesResult:
    """What one rule came to.

    Attributes:
        rule: its name.
        learning_rate: the rate that it was given.
        robustness: share of the starts from which the goal was reached.
        saddle_steps: steps to leave the saddle; ``None``: not within the limit.
        speed_steps: steps to the goal; ``None``: not within the limit.
        effective_rate: size of the update over size of the gradient at each step.
    """

    rule: str
    learning_rate: float
    robustness: float
    saddle_steps: int | None
    speed_steps: int | None
    effective_rate: list[float]


def toy_rate(rule: str) -> float:
    """Give the learning rate of the toys: 0.01 for all, and 1 for AdaDelta, whose steps have their own scale."""
    return 1.0 if rule == "adadelta" else 0.01


def make_rule(rule: str, parameters: list[Tensor], learning_rate: float) -> torch.optim.Optimizer:
    """Make a rule of :data:`medresnet3d.optimizers.rules.RULES` for tensors that belong to no network."""
    return RULES[rule].optimizer(parameters, **{"lr": learning_rate, **RULES[rule].options})  # type: ignore[arg-type]


def saddle(point: Tensor) -> Tensor:
    """Give :math:`x^2 - y^2` of points (..., 2)."""
    return point[..., 0] ** 2 - point[..., 1] ** 2


def rosenbrock(point: Tensor) -> Tensor:
    """Give :math:`(1-x)^2 + 100 (y - x^2)^2` of points (..., 2)."""
    return (1 - point[..., 0]) ** 2 + 100 * (point[..., 1] - point[..., 0] ** 2) ** 2


def valley(point: Tensor) -> Tensor:
    r"""Give :math:`\tfrac12 (x^2 + 25 y^2)` of points (..., 2)."""
    return 0.5 * (point[..., 0] ** 2 + 25 * point[..., 1] ** 2)


def steps_until(
    rule: str, function: Callable[[Tensor], Tensor], start: Tensor, done: Callable[[Tensor], Tensor], limit: int
) -> Tensor:
    """Follow a rule from many points at once, each on its own, until each is done.

    Args:
        rule: its name. All rules here work on each number by itself, so the points do not disturb each other.
        function: what is minimised, of points (N, 2), float64.
        start: (N, 2).
        done: says of points (N, 2) which are done (N,).
        limit: largest number of steps.

    Returns:
        The number of steps of each point (N,); ``limit + 1`` where it was not done by then.
    """
    point = start.clone().double().requires_grad_()
    optimizer = make_rule(rule, [point], toy_rate(rule))
    steps = torch.full((len(start),), limit + 1)
    for step in range(1, limit + 1):
        optimizer.zero_grad()
        function(point).nan_to_num(0, 0, 0).sum().backward()
        optimizer.step()
        with torch.no_grad():
            steps[done(point) & (steps > limit)] = step
        if bool((steps <= limit).all()):
            break
    return steps


def effective_rates(rule: str, width: int = 256, seed: int = 0) -> list[float]:
    """Give the size of the update over the size of the gradient for each step, over many numbers at once."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.zeros(width, dtype=torch.float64, requires_grad=True)
    optimizer = make_rule(rule, [values], toy_rate(rule))
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
    reached = steps_until(
        rule, rosenbrock, starts, lambda point: rosenbrock(point) < ROBUSTNESS_LEVEL, ROBUSTNESS_STEPS
    )
    left = int(steps_until(rule, saddle, torch.tensor([[1.0, 1e-4]]), lambda p: p[:, 1].abs() > 1, SADDLE_LIMIT))
    fast = int(steps_until(rule, valley, torch.ones(1, 2), lambda p: valley(p) < SPEED_LEVEL, SPEED_LIMIT))
    return AxesResult(
        rule,
        toy_rate(rule),
        float((reached <= ROBUSTNESS_STEPS).double().mean()),
        left if left <= SADDLE_LIMIT else None,
        fast if fast <= SPEED_LIMIT else None,
        effective_rates(rule, seed=seed),
    )
