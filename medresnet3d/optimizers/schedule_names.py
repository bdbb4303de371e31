"""Learning-rate schedules by name, with defaults that follow from the number of steps."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from medresnet3d.errors import ConfigError
from medresnet3d.names import require_name
from medresnet3d.optimizers.adaptive_cosine import AdaptiveCosineLR
from medresnet3d.optimizers.choices import require_options
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
from medresnet3d.optimizers.warm_up import WarmUpLR

#: The class of each schedule.
SCHEDULES: dict[str, type[LRScheduler]] = {
    "constant": ConstantRateLR,
    "one_cycle": OneCycleLR,
    "piecewise_constant": PiecewiseConstantLR,
    "polynomial": PolynomialDecayLR,
    "exponential": ExponentialDecayLR,
    "inverse_time": InverseTimeDecayLR,
    "natural_exp": NaturalExponentialDecayLR,
    "cosine": CosineDecayLR,
    "linear_cosine": LinearCosineDecayLR,
    "noisy_linear_cosine": NoisyLinearCosineDecayLR,
    "adaptive_cosine": AdaptiveCosineLR,
}


def _one_cycle(steps: int, optimizer: Optimizer) -> dict[str, Any]:
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    # torch would give plain gradient descent a momentum, and refuses rules that have none
    has_momentum = any("betas" in group or group.get("momentum", 0) > 0 for group in optimizer.param_groups)
    return {"total_steps": steps, "max_lr": rates, "cycle_momentum": has_momentum}


def _piecewise_constant(steps: int, optimizer: Optimizer) -> dict[str, Any]:
    half, rate = max(1, steps // 2), float(optimizer.param_groups[0]["lr"])
    return {"boundaries": [half, half + max(1, steps // 4)], "values": [rate, 0.1 * rate, 0.01 * rate]}


def _polynomial(steps: int, optimizer: Optimizer) -> dict[str, Any]:
    return {"decay_steps": steps, "end_learning_rate": 0.01 * float(optimizer.param_groups[0]["lr"])}


def _decay(**rates: float) -> Callable[[int, Optimizer], dict[str, Any]]:
    return lambda steps, optimizer: {"decay_steps": steps, **rates}


#: What follows from the number of steps, where the user does not say it.
_DEFAULTS: dict[str, Callable[[int, Optimizer], dict[str, Any]]] = {
    "constant": lambda steps, optimizer: {},
    "one_cycle": _one_cycle,
    "piecewise_constant": _piecewise_constant,
    "polynomial": _polynomial,
    "exponential": _decay(decay_rate=0.01),
    "inverse_time": _decay(decay_rate=9.0),
    "natural_exp": _decay(decay_rate=math.log(1000)),
    "cosine": _decay(),
    "linear_cosine": _decay(),
    "noisy_linear_cosine": _decay(),
    "adaptive_cosine": lambda steps, optimizer: {"period": -(-steps // 3)},
}


def build_lr_scheduler(
    optimizer: Optimizer, name: str = "one_cycle", steps: int = 1000, warmup: int = 0, **options: Any
) -> LRScheduler:
    """Make a learning-rate schedule by name, to be stepped after every iteration.

    What is not given follows from ``steps``: ``piecewise_constant`` falls to a tenth after half of them and to a
    hundredth after three quarters; ``polynomial`` and ``exponential`` end at a hundredth, ``natural_exp`` at a
    thousandth, ``inverse_time`` at a tenth, the cosines at (nearly) 0; ``adaptive_cosine`` has three cycles. The
    optimizer's rate is the initial one, for ``one_cycle`` the highest; ``one_cycle`` moves a momentum (or the first
    beta) the other way.

    Args:
        optimizer: with one learning rate, or several in parameter groups.
        name: ``constant``, ``one_cycle``, ``piecewise_constant``, ``polynomial``, ``exponential``, ``inverse_time``,
            ``natural_exp``, ``cosine``, ``linear_cosine``, ``noisy_linear_cosine`` or ``adaptive_cosine`` (inferred).
        steps: iterations of the whole training, warm-up included.
        warmup: of these, iterations in which the rate first rises linearly.
        **options: arguments of the schedule's class in :data:`SCHEDULES`.

    Raises:
        ConfigError: if the name or an option is unknown, or a value does not fit.

    Example:
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.5)
        >>> build_lr_scheduler(optimizer, "cosine", steps=400).get_last_lr()
        [0.5]
    """
    require_name("Learning-rate schedule", name, SCHEDULES)
    if not 0 <= warmup < steps:
        raise ConfigError(
            f"The learning-rate schedule has {steps} steps, {warmup} of them warm-up; give fewer of these."
        )
    schedule = SCHEDULES[name]
    known = set(inspect.signature(schedule).parameters) - {"optimizer", "last_epoch"}
    require_options("learning-rate schedule", name, options, known)
    settings = {**_DEFAULTS[name](steps - warmup, optimizer), **options}
    if name == "one_cycle" and settings.get("pct_start", 0.3) * settings["total_steps"] == 1:
        settings["pct_start"] *= 1 + 1e-9  # torch divides by the length of the rise, less one step
    try:
        made = schedule(optimizer, **settings)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"The learning-rate schedule {name!r} cannot be made: {error}.") from error
    return WarmUpLR(made, warmup) if warmup else made


def schedule_curve(name: str, lr0: float, steps: int, **options: Any) -> list[float]:
    """The learning rates that a schedule gives to iterations 0 to ``steps - 1``, for drawing.

    Args:
        name: as in :func:`build_lr_scheduler`.
        lr0: the optimizer's learning rate.
        steps: iterations.
        **options: as in :func:`build_lr_scheduler`, ``warmup`` included.

    Returns:
        ``steps`` learning rates.

    Raises:
        ConfigError: as :func:`build_lr_scheduler`.
    """
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=lr0)
    schedule = build_lr_scheduler(optimizer, name, steps, **options)
    curve = [float(schedule.get_last_lr()[0])]
    for _ in range(steps - 1):
        optimizer.step()
        schedule.step()
        curve.append(float(schedule.get_last_lr()[0]))
    return curve
