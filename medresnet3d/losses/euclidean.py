"""The Euclidean loss of Caffe."""

from __future__ import annotations

import math

from torch import Tensor

from medresnet3d.losses.mean_square import MeanSquareLoss


class EuclideanLoss(MeanSquareLoss):
    r"""Half the squared Euclidean distance, averaged over the N samples of a batch: Caffe's ``EuclideanLoss``.

    .. math:: L = \frac{1}{2N} \sum_n \lVert \hat y_n - y_n \rVert^2

    The sum goes over all numbers of a sample, places of a dense output too, so this is D/2 times the mean square error.

    Args:
        class_weights: see :class:`medresnet3d.losses.mean_square.MeanSquareLoss`, as are the others.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        probabilities: whether class numbers are compared with the softmax of the output or with the output itself.
    """

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Compute the loss; arguments as those of :class:`medresnet3d.losses.mean_square.MeanSquareLoss`."""
        error, weights = self._square_error(output, target)
        loss = self.reduce(0.5 * error.sum(1), weights)
        return loss * math.prod(output.shape[2:]) if self.reduction == "mean" else loss
