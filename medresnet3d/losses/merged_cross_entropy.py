"""Cross-entropy of two groups of ordered classes: a network with several grades trained on a yes or no alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medresnet3d.errors import ConfigError
from medresnet3d.losses.class_weights import ClassWeightedLoss, class_numbers, to_full


class MergedCrossEntropyLoss(ClassWeightedLoss):
    r"""Cross-entropy of "at least grade t" against "less", each side with the probability of its classes together.

    .. math:: \ell = -\log \sum_{g \geq t} p_g \;\text{ if } y \geq t, \qquad
              \ell = -\log \sum_{g < t} p_g \;\text{ otherwise}

    with :math:`p` the softmax of the K logits. It teaches a network of K classes what a network of two would be taught,
    with the same parameters: how the probability is shared out within a side is left open. It is what training on all
    grades is compared with.

    Args:
        from_grade: t, from 1 to K - 1.
        class_weights: one positive weight for each of the K classes.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ConfigError: if ``from_grade`` is below 1, or when it is called, is no grade of the output.
    """

    def __init__(
        self, from_grade: int = 1, class_weights: Sequence[float] | None = None, reduction: str = "mean"
    ) -> None:
        super().__init__(class_weights, reduction)
        if from_grade < 1:
            raise ConfigError(f"from_grade is {from_grade}; the lowest grade that can be told from others is 1.")
        self.from_grade = from_grade

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            output: logits, (B, K, ...), classes in rising order.
            target: class numbers, (B, ...) or (B, 1, ...).
        """
        output, number = to_full(output), output.shape[1]
        if self.from_grade >= number:
            raise ConfigError(f"from_grade is {self.from_grade}, but there are {number} grades; use 1 to {number - 1}.")
        classes = class_numbers(target, output)
        sides = [output[:, : self.from_grade], output[:, self.from_grade :]]
        logs = torch.stack([side.logsumexp(1) for side in sides], 1).log_softmax(1)
        values = -torch.where(classes >= self.from_grade, logs[:, 1], logs[:, 0])
        return self.reduce(values, self.weights_of(classes, number))
