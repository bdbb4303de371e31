"""What a training run knows beyond network and optimizer; part of every checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Session:
    """State of a training run, besides what network, optimizer and schedule hold.

    Attributes:
        seed: seed of the run.
        history: one row for each finished epoch, as in ``metrics.csv``.
        loss_sum: sum of the losses of the running epoch's iterations.
        loss_count: number of those iterations.
        seconds: time spent on the running epoch.
        epoch_open: whether all iterations of an epoch are done, but not yet its validation.
        best_metric: best value of the key metric so far.
        best_epoch: its epoch; -1: none yet.
        waited: validations since then, for early stopping.
        finished: whether the run has come to its end.
    """

    seed: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    loss_sum: float = 0.0
    loss_count: int = 0
    seconds: float = 0.0
    epoch_open: bool = False
    best_metric: float = 0.0
    best_epoch: int = -1
    waited: int = 0
    finished: bool = False

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain numbers."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""
        for name, value in state.items():
            setattr(self, name, value)

    def start_epoch(self) -> None:
        """Forget the sums of the epoch before."""
        self.loss_sum, self.loss_count, self.seconds, self.epoch_open = 0.0, 0, 0.0, False

    @property
    def mean_loss(self) -> float:
        """Mean loss of the running epoch; NaN before its first iteration."""
        return self.loss_sum / self.loss_count if self.loss_count else float("nan")
