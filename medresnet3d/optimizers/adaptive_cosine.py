"""Adaptive cosine learning rate with restarts."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from medresnet3d.errors import ConfigError


class AdaptiveCosineLR(LRScheduler):
    r"""Cosine cycles of which each starts lower than the one before, and which end early where progress does.

    .. math:: \eta_t = \eta_\text{min} + \tfrac12 (\eta_c - \eta_\text{min}) (1 + \cos(\pi t_c / T_c)),\qquad
              \eta_{c+1} = \rho \eta_c,\quad T_{c+1} = \tau T_c

    with :math:`t_c` steps since cycle c began. A cycle ends after its length :math:`T_c`, or as soon as ``patience``
    values of the metric in a row were not better than the best so far (:meth:`observe`). Without observed values it is
    the schedule of Loshchilov and Hutter (SGDR, ICLR 2017) with falling peaks.

    **Inferred.** Xu (2019) is known to train a multi-branch ResNet with an "adaptive cosine learning rate"; its formula
    is not known to us. This definition is ours.

    Args:
        optimizer: its learning rates are the first peaks, of each group its own.
        period: length of the first cycle in steps.
        peak_factor: :math:`\rho`, in (0, 1].
        period_factor: :math:`\tau`.
        min_lr: :math:`\eta_\text{min}`.
        patience: values without a better one before a cycle is cut short.
        mode: ``max`` if a higher metric is better, ``min`` if a lower one is.
        last_epoch: steps done before.

    Raises:
        ConfigError: if an argument is out of its range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        period: int,
        peak_factor: float = 0.5,
        period_factor: float = 1.0,
        min_lr: float = 0.0,
        patience: int = 5,
        mode: str = "max",
        last_epoch: int = -1,
    ) -> None:
        if period < 1 or patience < 1 or not period_factor > 0 or not 0 < peak_factor <= 1:
            raise ConfigError(
                f"adaptive_cosine has period {period}, patience {patience}, peak_factor {peak_factor} and "
                f"period_factor {period_factor}; give 1 or more, 1 or more, a number in (0, 1] and one above 0."
            )
        if mode not in ("max", "min"):
            raise ConfigError(f"The mode of adaptive_cosine is {mode!r}; use max or min.")
        self.peak_factor, self.period_factor, self.min_lr = peak_factor, period_factor, min_lr
        self.patience, self.mode = patience, mode
        self.cycle, self.cycle_start, self.cycle_length = 0, 0, int(period)
        self.best: float | None = None
        self.waited = 0
        super().__init__(optimizer, last_epoch)

    def observe(self, metric: float) -> bool:
        """Take note of a validation; returns whether it ended the cycle, so that the next step begins another."""
        sign = 1 if self.mode == "max" else -1
        if self.best is None or sign * metric > sign * self.best:
            self.best, self.waited = float(metric), 0
            return False
        self.waited += 1
        if self.waited < self.patience:
            return False
        self._restart(self.last_epoch + 1)
        return True

    def _restart(self, step: int) -> None:
        self.cycle += 1
        self.cycle_start = step
        self.cycle_length = max(1, round(self.cycle_length * self.period_factor))
        self.waited = 0

    def get_lr(self) -> list[float]:  # type: ignore[override]
        """The learning rates of all groups at ``last_epoch``."""
        while self.last_epoch >= self.cycle_start + self.cycle_length:
            self._restart(self.cycle_start + self.cycle_length)
        progress = max(0, self.last_epoch - self.cycle_start) / self.cycle_length
        height = 0.5 * (1 + math.cos(math.pi * progress))
        peaks = [float(initial) * self.peak_factor**self.cycle for initial in self.base_lrs]
        return [self.min_lr + (peak - self.min_lr) * height if peak > self.min_lr else peak for peak in peaks]
