"""Learning-rate schedules whose value depends on the number of the step alone."""

from __future__ import annotations

from abc import abstractmethod

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class ClosedFormLR(LRScheduler):
    """A schedule given by a formula: :meth:`rate` of the step and of a parameter group's initial learning rate.

    It is stepped, saved and composed like any of ``torch.optim.lr_scheduler``. Alone it gives the formula's value
    exactly, after a resume too. Where something else changes the rate besides (``ChainedScheduler``), it multiplies
    what it finds by the ratio of its own last two values; after a value of exactly 0 it begins from its own again.

    Args:
        optimizer: its learning rates are the initial ones, of each parameter group its own.
        last_epoch: steps done before; -1 starts anew.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        super().__init__(optimizer, last_epoch)

    @abstractmethod
    def rate(self, step: int, initial: float) -> float:
        """The learning rate at ``step`` (0 is the first) of a group that starts from ``initial``."""

    def get_lr(self) -> list[float]:  # type: ignore[override]
        """The learning rates of all groups at ``last_epoch``."""
        return [
            self._next(float(group["lr"]), initial)
            for group, initial in zip(self.optimizer.param_groups, self._initials(), strict=True)
        ]

    def _next(self, current: float, initial: float) -> float:
        own = self.rate(self.last_epoch, initial)
        before = self.rate(self.last_epoch - 1, initial) if self.last_epoch > 0 else initial
        return own if current == before or before == 0 else own * current / before

    def _get_closed_form_lr(self) -> list[float]:
        """What torch asks for when a step's number is given (``SequentialLR``)."""
        return [self.rate(self.last_epoch, initial) for initial in self._initials()]

    def scaled(self, value: float, initial: float) -> float:
        """What a rate that is given for the first group is for one that starts from ``initial``."""
        first = float(self.base_lrs[0])
        return value if initial == first or first == 0 else value * initial / first

    def _initials(self) -> list[float]:
        return [float(initial) for initial in self.base_lrs]
