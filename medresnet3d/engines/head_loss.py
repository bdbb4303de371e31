"""Feeds a loss on features: what it needs is taken at the network's last layer while the network runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from medresnet3d.engines.device import undistributed
from medresnet3d.errors import ConfigError
from medresnet3d.losses.margin import MarginLoss
from medresnet3d.networks.heads.linear import LinearHead


class HeadLoss:
    """A :class:`medresnet3d.losses.margin.MarginLoss` in the place of a loss that is called with (output, label).

    The features are what enters ``network.classifier`` during the one forward pass of an iteration, so a wrapper for
    distribution stays in charge of it. State is that of the loss.

    Args:
        loss: the loss on features.
        network: a classifier of this package, on its device, perhaps wrapped for distribution.

    Raises:
        ConfigError: if the network has no last layer of that kind.
    """

    def __init__(self, loss: MarginLoss, network: nn.Module) -> None:
        head = getattr(undistributed(network), "classifier", None)
        if not isinstance(head, LinearHead):
            raise ConfigError(
                f"{type(loss).__name__} needs the features of a classifier of medresnet3d, but "
                f"{type(undistributed(network)).__name__} has no last layer `classifier` of the type LinearHead; "
                "choose another loss (cross_entropy, focal, hinge, ...) or network."
            )
        self.loss = loss
        self.head = head
        self._features: list[Tensor] = []
        self.prepare()

    def prepare(self) -> None:
        """Put the network's last layer into the mode of the loss."""
        self.loss.prepare(self.head)

    def capturing(self, inferer: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap an inferer so that it leaves the features for the next call of the loss."""

        def infer(*args: Any, **kwargs: Any) -> Any:
            self._features.clear()
            hook = self.head.register_forward_pre_hook(lambda head, inputs: self._features.append(inputs[0]))
            try:
                return inferer(*args, **kwargs)
            finally:
                hook.remove()

        return infer

    def __call__(self, output: Any, target: Tensor) -> Tensor:
        """Compute the loss in fp32 of the features of the last forward pass.

        Raises:
            ConfigError: if the network used its last layer not once, or returned several outputs.
        """
        if len(self._features) != 1 or not isinstance(output, Tensor):
            raise ConfigError(
                f"{type(self.loss).__name__} works on one output of one last layer, but the network used it "
                f"{len(self._features)} times and returned {type(output).__name__}; choose another loss."
            )
        features = self._features.pop()
        with torch.autocast(features.device.type, enabled=False):
            loss = self.loss.on_head(features.float(), self.head, target)
            if self.head.bias is not None and not self.loss.uses_bias:
                # A gradient of zero: under distribution every parameter must have one, and the bias stays zero.
                loss = loss + 0.0 * self.head.bias.sum()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """State of the loss."""
        return self.loss.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""
        self.loss.load_state_dict(state)
