"""Mean square error, for numbers and for classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from medresnet3d.errors import DataError
from medresnet3d.losses.class_weights import ClassWeightedLoss, class_numbers, to_full


class MeanSquareLoss(ClassWeightedLoss):
    r"""Mean square error over N samples of D numbers.

    .. math:: L = \frac{1}{N D} \sum_n \lVert \hat y_n - y_n \rVert^2

    A target of the output's shape is compared as it is (regression; a single output is always a number to regress).
    Class numbers become one-hot vectors; with ``probabilities`` they are compared with the softmax of the output, which
    is the Brier score divided by the number of classes (G. W. Brier. Verification of forecasts expressed in terms of
    probability. Monthly Weather Review 78 (1950)), so that the network's softmax still means probabilities.

    Args:
        class_weights: one positive weight for each class; for class numbers only.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``: over samples; the D numbers of a sample are always averaged.
        probabilities: whether class numbers are compared with the softmax of the output or with the output itself.
    """

    def __init__(
        self, class_weights: Sequence[float] | None = None, reduction: str = "mean", probabilities: bool = True
    ) -> None:
        super().__init__(class_weights, reduction)
        self.probabilities = probabilities

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            output: (B, D, ...).
            target: numbers of the output's shape, or with D = 1 without the second axis; or class numbers, (B, ...)
                or (B, 1, ...).
        """
        error, weights = self._square_error(output, target)
        return self.reduce(error.mean(1), weights)

    def _square_error(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor | None]:
        """Square error (B, D, ...) and the weight of each place."""
        output, number = to_full(output), output.shape[1]
        if target.shape == output.shape or number == 1:
            truth = target.reshape(output.shape) if target.numel() == output.numel() else None
            if truth is None:
                raise DataError(
                    f"The target has the shape {tuple(target.shape)}, the output {tuple(output.shape)}; "
                    "give one number for each output."
                )
            return (output - truth.to(output.dtype)).square(), None
        classes = class_numbers(target, output)
        truth = torch.movedim(F.one_hot(classes, number), -1, 1).to(output.dtype)
        predicted = output.softmax(1) if self.probabilities else output
        return (predicted - truth).square(), self.weights_of(classes, number)
