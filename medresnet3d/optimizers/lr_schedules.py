r"""The learning-rate decays of TensorFlow 1, which the literature's hyper-parameters are written for.

In all formulas t is the number of the step from 0 on, :math:`\eta_0` the initial learning rate of a parameter group and
T ``decay_steps``. Names and defaults are TensorFlow's; torch has none of these but the plain cosine for t <= T.
Reference: the documentation of ``tf.compat.v1.train``.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from torch.optim import Optimizer

from medresnet3d.errors import ConfigError
from medresnet3d.optimizers.closed_form import ClosedFormLR


def _positive(what: str, value: float) -> float:
    if not value > 0:
        raise ConfigError(f"{what} is {value}; it must be above 0.")
    return value


class ConstantRateLR(ClosedFormLR):
    """The initial learning rate throughout (torch's ``ConstantLR`` is a warm-up in one jump)."""

    def rate(self, step: int, initial: float) -> float:
        """The learning rate at ``step``."""
        return initial


class PiecewiseConstantLR(ClosedFormLR):
    r"""``piecewise_constant``: :math:`v_0` up to and including :math:`b_0`, then :math:`v_1`, and so on.

    torch's ``MultiStepLR`` drops one step earlier, and by one factor only.

    Args:
        optimizer: the first group gets the ``values``; others keep their ratio to it.
        boundaries: increasing step numbers.
        values: learning rates, one more than there are boundaries.
        last_epoch: steps done before.

    Raises:
        ConfigError: if the numbers of boundaries and values do not fit or the boundaries do not increase.
    """

    def __init__(
        self, optimizer: Optimizer, boundaries: Sequence[float], values: Sequence[float], last_epoch: int = -1
    ) -> None:
        if len(values) != len(boundaries) + 1:
            raise ConfigError(
                f"piecewise_constant has {len(boundaries)} boundaries and {len(values)} values; "
                "give one value more than boundaries."
            )
        if list(boundaries) != sorted(set(boundaries)):
            raise ConfigError(f"The boundaries of piecewise_constant are {list(boundaries)}; they must increase.")
        self.boundaries, self.values = list(boundaries), [float(value) for value in values]
        super().__init__(optimizer, last_epoch)

    def rate(self, step: int, initial: float) -> float:
        """The learning rate at ``step``."""
        return self.scaled(self.values[bisect_left(self.boundaries, step)], initial)


class PolynomialDecayLR(ClosedFormLR):
    r"""``polynomial_decay``: :math:`(\eta_0 - \eta_T)(1 - t/T)^p + \eta_T`, and :math:`\eta_T` from T on.

    With ``cycle`` the rate jumps up after each T and falls again: T is replaced by :math:`T\lceil t/T\rceil`.

    Args:
        optimizer: its learning rates are the initial ones.
        decay_steps: T.
        end_learning_rate: :math:`\eta_T`, of the first group; others keep their ratio to it.
        power: p.
        cycle: go on in a saw-tooth after T.
        last_epoch: steps done before.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        decay_steps: float,
        end_learning_rate: float = 1e-4,
        power: float = 1.0,
        cycle: bool = False,
        last_epoch: int = -1,
    ) -> None:
        self.decay_steps = _positive("decay_steps", decay_steps)
        self.end_learning_rate, self.power, self.cycle = end_learning_rate, power, cycle
        super().__init__(optimizer, last_epoch)

    def rate(self, step: int, initial: float) -> float:
        """The learning rate at ``step``."""
        whole = self.decay_steps
        if self.cycle:
            whole *= max(1, math.ceil(step / whole))
        end = self.scaled(self.end_learning_rate, initial)
        return float((initial - end) * (1 - min(step, whole) / whole) ** self.power + end)


class _FractionLR(ClosedFormLR):
    """The three decays by t/T, which may go in stairs.

    Args:
        optimizer: its learning rates are the initial ones.
        decay_steps: T.
        decay_rate: how fast; see the formula.
        staircase: take the largest integer below t/T in its place.
        last_epoch: steps done before.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        self.decay_steps = _positive("decay_steps", decay_steps)
        self.decay_rate, self.staircase = decay_rate, staircase
        super().__init__(optimizer, last_epoch)

    def fraction(self, step: int) -> float:
        """t/T, or its integer part."""
        return math.floor(step / self.decay_steps) if self.staircase else step / self.decay_steps


class ExponentialDecayLR(_FractionLR):
    r"""``exponential_decay``: :math:`\eta_0 r^{t/T}`; torch's ``ExponentialLR`` has T = 1, MONAI's is a search ramp."""

    def rate(self, step: int, initial: float) -> float:
        """The learning rate at ``step``."""
        return float(initial * self.decay_rate ** self.fraction(step))


class InverseTimeDecayLR(_FractionLR):
    r"""``inverse_time_decay``: :math:`\eta_0 / (1 + r t/T)`; it has no floor but 0."""

    def rate(self, step: int, initial: float) -> float:
        """The learning rate at ``step``."""
        return initial / (1 + self.decay_rate * self.fraction(step))


class NaturalExponentialDecayLR(_FractionLR):
    r"""``natural_exp_decay``: :math:`\eta_0 e^{-r t/T}`."""

    def rate(self, step: int, initial: float) -> float:
        """The learning rate at ``step``."""
        return initial * math.exp(-self.decay_rate * self.fraction(step))


class CosineDecayLR(ClosedFormLR):
    r"""``cosine_decay``: :math:`\eta_0 [(1 - \alpha) \tfrac12 (1 + \cos(\pi t/T)) + \alpha]`, flat from T on.

    torch's ``CosineAnnealingLR`` is the same up to T and rises again after it.

    Args:
        optimizer: its learning rates are the initial ones.
        decay_steps: T.
        alpha: floor, as a share of the initial rate.
        last_epoch: steps done before.
    """

    def __init__(self, optimizer: Optimizer, decay_steps: float, alpha: float = 0.0, last_epoch: int = -1) -> None:
        self.decay_steps, self.alpha = _positive("decay_steps", decay_steps), alpha
        super().__init__(optimizer, last_epoch)

    def rate(self, step: int, initial: float) -> float:
        """The learning rate at ``step``."""
        progress = min(step, self.decay_steps) / self.decay_steps
        return initial * ((1 - self.alpha) * 0.5 * (1 + math.cos(math.pi * progress)) + self.alpha)


class LinearCosineDecayLR(ClosedFormLR):
    r"""``linear_cosine_decay``: :math:`\eta_0 [(\alpha + (1 - t/T)) \tfrac12 (1 + \cos(2\pi n t/T)) + \beta]`.

    Paper: I. Bello et al., "Neural optimizer search with reinforcement learning", ICML 2017. Flat from T on.

    Args:
        optimizer: its learning rates are the initial ones.
        decay_steps: T.
        num_periods: n, periods of the cosine.
        alpha: added to the linear part.
        beta: added to the whole.
        last_epoch: steps done before.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        decay_steps: float,
        num_periods: float = 0.5,
        alpha: float = 0.0,
        beta: float = 0.001,
        last_epoch: int = -1,
    ) -> None:
        self.decay_steps = _positive("decay_steps", decay_steps)
        self.num_periods, self.alpha, self.beta = num_periods, alpha, beta
        super().__init__(optimizer, last_epoch)

    def noise(self, step: int) -> float:
        """What is added to the linear part: nothing."""
        return 0.0

    def rate(self, step: int, initial: float) -> float:
        """The learning rate at ``step``."""
        clipped = min(step, self.decay_steps)
        linear = (self.decay_steps - clipped) / self.decay_steps
        cosine = 0.5 * (1 + math.cos(math.pi * 2 * self.num_periods * clipped / self.decay_steps))
        return initial * ((self.alpha + linear + self.noise(step)) * cosine + self.beta)


class NoisyLinearCosineDecayLR(LinearCosineDecayLR):
    r"""``noisy_linear_cosine_decay``: the linear cosine with Gaussian noise on its linear part.

    The noise of step t has the *variance* :math:`\sigma_0^2 / (1 + t)^\gamma` and is drawn from ``(seed, t)``, so that
    a resumed run has the same curve. TensorFlow's rate can become negative; here ``min_lr`` is the floor.

    Args:
        optimizer: its learning rates are the initial ones.
        decay_steps: T.
        initial_variance: :math:`\sigma_0^2`.
        variance_decay: :math:`\gamma`.
        num_periods: periods of the cosine.
        alpha: added to the linear part.
        beta: added to the whole.
        min_lr: lowest learning rate; ``-math.inf`` for TensorFlow's own values.
        seed: of the noise.
        last_epoch: steps done before.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        decay_steps: float,
        initial_variance: float = 1.0,
        variance_decay: float = 0.55,
        num_periods: float = 0.5,
        alpha: float = 0.0,
        beta: float = 0.001,
        min_lr: float = 0.0,
        seed: int = 0,
        last_epoch: int = -1,
    ) -> None:
        self.initial_variance, self.variance_decay = initial_variance, variance_decay
        self.min_lr, self.seed = min_lr, seed
        super().__init__(optimizer, decay_steps, num_periods, alpha, beta, last_epoch)

    def noise_std(self, step: int) -> float:
        """Standard deviation of the noise at a step; after T it stays that of T."""
        return math.sqrt(self.initial_variance / (1 + min(step, self.decay_steps)) ** self.variance_decay)

    def noise(self, step: int) -> float:
        """The noise of a step."""
        draw = np.random.default_rng([self.seed, step]).standard_normal()
        return self.noise_std(step) * float(draw)

    def rate(self, step: int, initial: float) -> float:
        """The learning rate at ``step``."""
        return max(self.min_lr, super().rate(step, initial))
