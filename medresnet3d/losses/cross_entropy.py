"""Cross-entropy, of a softmax over several logits or the sigmoid of a single one."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from medresnet3d.losses.class_weights import ClassWeightedLoss, class_numbers, to_full


class CrossEntropyLoss(ClassWeightedLoss):
    r"""Cross-entropy of the softmax of K logits, or with K = 1 of the sigmoid of the single one.

    .. math:: \ell = -\log \frac{e^{z_y}}{\sum_j e^{z_j}}, \qquad
              \ell = -[y \log \sigma(z) + (1 - y) \log(1 - \sigma(z))]

    It is ``torch.nn.CrossEntropyLoss`` that takes labels of shape (B, 1, ...) too; "softmax loss" is another name.

    Args:
        class_weights: one positive weight for each class (two with a single logit).
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        label_smoothing: share of the target that is spread evenly over all classes (C. Szegedy et al. Rethinking the
            Inception architecture for computer vision. CVPR 2016).
    """

    def __init__(
        self, class_weights: Sequence[float] | None = None, reduction: str = "mean", label_smoothing: float = 0.0
    ) -> None:
        super().__init__(class_weights, reduction)
        self.label_smoothing = label_smoothing

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            output: logits, (B, K, ...).
            target: class numbers, (B, ...) or (B, 1, ...); or probabilities, (B, K, ...) with K > 1.
        """
        output, number = to_full(output), output.shape[1]
        if number == 1:
            return self._binary(output, class_numbers(target, output))
        if target.shape != output.shape:
            target = class_numbers(target, output)
        weights = self.weights_for(number)
        weight = None if weights is None else weights.to(output.dtype)
        return F.cross_entropy(output, target, weight, reduction=self.reduction, label_smoothing=self.label_smoothing)

    def _binary(self, output: Tensor, classes: Tensor) -> Tensor:
        truth = classes.to(output.dtype) * (1 - self.label_smoothing) + self.label_smoothing / 2
        values = F.binary_cross_entropy_with_logits(output[:, 0], truth, reduction="none")
        return self.reduce(values, self.weights_of(classes, 2))
