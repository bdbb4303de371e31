"""Linear warm-up in front of any schedule."""

from __future__ import annotations

from typing import Any

from torch.optim.lr_scheduler import LRScheduler

from medresnet3d.errors import ConfigError
from medresnet3d.optimizers.adaptive_cosine import AdaptiveCosineLR


class WarmUpLR(LRScheduler):
    r"""Raise the learning rate linearly to where a schedule begins, then follow that schedule from its step 0.

    At step t < W the rate of each group is :math:`\eta (t + 1) / (W + 1)`, where :math:`\eta` is the first value of the
    schedule, which comes at step W. (Goyal et al., arXiv:1706.02677, warm up large batches so.)

    Args:
        schedule: a schedule of ``torch.optim.lr_scheduler`` or of this package, not stepped yet.
        steps: W.

    Raises:
        ConfigError: if ``steps`` is negative.
    """

    def __init__(self, schedule: LRScheduler, steps: int) -> None:
        if steps < 0:
            raise ConfigError(f"warmup is {steps}; it must be 0 or more steps.")
        self.schedule, self.steps = schedule, int(steps)
        self.targets = [float(rate) for rate in schedule.get_last_lr()]
        super().__init__(schedule.optimizer)

    def get_lr(self) -> list[float]:  # type: ignore[override]
        """The learning rates of all groups during the warm-up and at its end."""
        share = min(1.0, (self.last_epoch + 1) / (self.steps + 1))
        return [target * share for target in self.targets]

    def step(self, epoch: int | None = None) -> None:
        """Go to the next step, or to the one given."""
        step = self.last_epoch + 1 if epoch is None else epoch
        if step <= self.steps:
            super().step(epoch)
            return
        self.last_epoch = step
        self.schedule.step(None if epoch is None else step - self.steps)
        self._last_lr = self.schedule.get_last_lr()

    def observe(self, metric: float) -> bool:
        """Hand a validation's metric to a schedule that takes it, once the warm-up is over."""
        if not isinstance(self.schedule, AdaptiveCosineLR) or self.last_epoch < self.steps:
            return False
        return self.schedule.observe(metric)

    def state_dict(self) -> dict[str, Any]:
        """The state as plain numbers, that of the schedule included."""
        return {
            "last_epoch": self.last_epoch,
            "steps": self.steps,
            "targets": list(self.targets),
            "schedule": self.schedule.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""
        self.last_epoch, self.steps = state_dict["last_epoch"], state_dict["steps"]
        self.targets = list(state_dict["targets"])
        self.schedule.load_state_dict(state_dict["schedule"])
        self._last_lr = [float(group["lr"]) for group in self.optimizer.param_groups]
