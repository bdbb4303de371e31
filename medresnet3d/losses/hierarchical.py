"""Cross-entropy on two levels of classes: the class, and the group that it belongs to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medresnet3d.errors import ConfigError
from medresnet3d.losses.class_weights import class_numbers, to_full
from medresnet3d.losses.cross_entropy import CrossEntropyLoss
from medresnet3d.losses.margin import MarginLoss


class HierarchicalLoss(nn.Module):
    r"""A loss of the class plus the cross-entropy of its group, :math:`L = \ell(z, k) - \lambda \log p(g(k))`.

    With the cross-entropy as :math:`\ell` that is :math:`-\log p(k) - \lambda \log p(g(k))`. A group's probability is
    the sum of its classes', so any classifier's logits will do: to a flat one it says that a mistake within the group
    is the smaller one.

    Args:
        groups: the group (0, 1, ...) of each class.
        weight: lambda.
        loss: the loss of the class, called as ``loss(logits, target)``; the cross-entropy by default.

    Raises:
        ConfigError: if the weight is negative, or the loss is one on features.
    """

    group: Tensor

    def __init__(self, groups: Sequence[int], weight: float = 1.0, loss: nn.Module | None = None) -> None:
        super().__init__()
        if weight < 0:
            raise ConfigError(f"The weight of the group is {weight}; it must not be negative.")
        if isinstance(loss, MarginLoss):
            raise ConfigError(
                f"{type(loss).__name__} works on the features of a plain last layer, not on classes in groups; choose "
                "a loss of logits (cross_entropy, focal, ...)."
            )
        self.loss = CrossEntropyLoss() if loss is None else loss
        self.weight = weight
        self.register_buffer("group", torch.tensor(list(groups)), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logits: (B, K).
            target: class numbers, (B,) or (B, 1).

        Returns:
            Scalar.
        """
        classes = class_numbers(target, logits)
        logs = F.log_softmax(to_full(logits), dim=1)
        same_group = self.group[classes][:, None] == self.group
        group = logs.masked_fill(~same_group, -float("inf")).logsumexp(1)
        return torch.as_tensor(self.loss(logits, target)) - self.weight * group.mean()
