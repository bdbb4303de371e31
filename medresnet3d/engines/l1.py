"""L1 regularisation of a training run; see :mod:`medresnet3d.optimizers.l1`."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines import IterationEvents
from monai.utils import CommonKeys

from medresnet3d.errors import ConfigError
from medresnet3d.optimizers.l1 import l1_penalty, soft_threshold
from medresnet3d.optimizers.parameter_groups import regularised_parameters

L1_MODES = ("penalty", "proximal")


class L1Regulariser:
    """Shrinks the weights of the network's layers; norms, biases, slopes of PReLU and frozen weights stay.

    Args:
        strength: factor of the sum of absolute weights.
        mode: ``penalty`` adds it to the loss; ``proximal`` soft-thresholds the weights after each step of the
            optimizer, which makes many exactly zero.

    Raises:
        ConfigError: if the strength is negative or the mode unknown.
    """

    def __init__(self, strength: float, mode: str = "penalty") -> None:
        if mode not in L1_MODES:
            raise ConfigError(f"l1_mode is {mode!r}; use {' or '.join(L1_MODES)}.")
        if strength < 0:
            raise ConfigError(f"l1 is {strength}; it must be 0 (off) or more.")
        self.strength = strength
        self.mode = mode
        self.parameters: list[torch.nn.Parameter] = []

    def attach(self, engine: Any) -> None:
        """Attach to a :class:`medresnet3d.engines.Trainer`."""
        self.parameters = [each for each in regularised_parameters(engine.network) if each.requires_grad]
        if self.strength == 0 or not self.parameters:
            return
        if self.mode == "penalty":
            engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self._add_penalty)
        else:
            engine.optimizer.register_step_post_hook(self._shrink)

    def _add_penalty(self, engine: Any) -> None:
        output = engine.state.output
        output[CommonKeys.LOSS] = output[CommonKeys.LOSS] + l1_penalty(self.parameters, self.strength)

    def _shrink(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        soft_threshold(optimizer, self.parameters, self.strength)
