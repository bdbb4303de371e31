"""Freeze the statistics of batch normalisation after the first part of a training."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events

from medresnet3d.engines.device import undistributed


class FreezeNorm:
    """Call ``freeze_norm()`` of the trainer's network once a share of all iterations is done.

    What it does depends on the iteration alone, so a resumed run behaves as an unbroken one.

    Args:
        after: share of the iterations, 0 to 1; 1 or more: never.
        steps: iterations of the whole training; ``None``: those of all epochs.
    """

    def __init__(self, after: float = 0.2, steps: int | None = None) -> None:
        self.after = after
        self.steps = steps

    def attach(self, engine: Engine) -> None:
        """Attach to a :class:`medresnet3d.engines.Trainer` whose network has ``freeze_norm``."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Freeze or not, as the iteration that begins has it."""
        total = self.steps or (engine.state.max_epochs or 0) * (engine.state.epoch_length or 0)
        network: Any = undistributed(engine.network)  # type: ignore[attr-defined]
        frozen = engine.state.iteration > self.after * total
        if frozen != network.norm_frozen:
            network.freeze_norm(frozen)
