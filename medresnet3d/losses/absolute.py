"""Losses of one estimated number that outliers pull at less than at a square: absolute error and Huber's loss."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.losses.class_weights import ClassWeightedLoss, to_full


class HuberLoss(ClassWeightedLoss):
    r"""Half the square of an error up to ``delta``, beyond it ``delta`` times (the error less half of ``delta``).

    P. J. Huber. Robust estimation of a location parameter. Annals of Mathematical Statistics 35 (1964).

    Args:
        delta: the error, in the unit of the truth, from which on the loss is linear.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``: over samples.

    Raises:
        ConfigError: if ``delta`` is not positive.
    """

    def __init__(self, delta: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(None, reduction)
        if delta <= 0:
            raise ConfigError(f"delta of Huber's loss is {delta}; give a positive number.")
        self.delta = delta

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of numbers (B, 1); the target may lack the second axis."""
        output, truth = _same_shape(output, target)
        return self.reduce(F.huber_loss(output, truth, reduction="none", delta=self.delta).flatten(), None)


class AbsoluteErrorLoss(ClassWeightedLoss):
    """The absolute error of each number.

    Args:
        reduction: ``"mean"``, ``"sum"`` or ``"none"``: over samples.
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(None, reduction)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of numbers (B, 1); the target may lack the second axis."""
        output, truth = _same_shape(output, target)
        return self.reduce((output - truth).abs().flatten(), None)


def _same_shape(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    if output.shape[1:].numel() != 1 or target.numel() != output.numel():
        raise DataError(
            f"The target has the shape {tuple(target.shape)}, the output {tuple(output.shape)}; this loss compares one "
            "number a sample, so choose another (cross_entropy) for classes."
        )
    output = to_full(output)
    return output, target.reshape(output.shape).to(output.dtype)
