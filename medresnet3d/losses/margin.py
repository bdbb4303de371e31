"""Losses on features and the last layer's weights: what margin, centre and contrastive losses share.

Such a loss owns no weights. In training it gets a batch's features, the weights of the network's last layer and the
classes; :class:`medresnet3d.engines.Trainer` collects them. Before training it puts the last layer into the mode in
which the network is to answer, e.g. with cosine logits; see :class:`medresnet3d.networks.heads.LinearHead`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from medresnet3d.losses.class_weights import ClassWeightedLoss, class_numbers, to_full


class Head(Protocol):
    """What such a loss needs of a network's last layer."""

    weight: Any
    bias: Any
    feature_scale: Any

    def set_mode(self, feature_scale: float = 0.0, unit_weights: bool = False, bias: bool = True) -> None:
        """Choose how the layer computes logits."""


class MarginLoss(ClassWeightedLoss):
    """Base of the losses on features: cross-entropy of logits that a subclass computes from features and weights.

    In eval mode there is no margin: the loss is the cross-entropy of what the prepared network answers.

    Args:
        class_weights: one positive weight for each class.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
    """

    uses_bias: ClassVar[bool] = False

    def prepare(self, head: Head) -> None:
        """Put the network's last layer into the mode that belongs to this loss; may be called again."""
        head.set_mode(bias=self.uses_bias)

    def logits(self, features: Tensor, weight: Tensor, classes: Tensor, bias: Tensor | None) -> Tensor:
        """Logits, with the margin in training mode; a subclass defines them.

        Args:
            features: (B, F).
            weight: (K, F).
            classes: int64, (B,).
            bias: (K,), for the losses that use it.
        """
        return F.linear(features, weight, bias)

    def values(self, features: Tensor, weight: Tensor, classes: Tensor, bias: Tensor | None) -> Tensor:
        """The loss of each sample, (B,); arguments as those of :meth:`logits`."""
        return F.cross_entropy(self.logits(features, weight, classes, bias), classes, reduction="none")

    def forward(self, features: Tensor, weight: Tensor, target: Tensor, bias: Tensor | None = None) -> Tensor:
        """Compute the loss.

        Args:
            features: what the last layer gets, (B, F).
            weight: the last layer's weight, (K, F).
            target: class numbers, (B,) or (B, 1).
            bias: the last layer's bias, (K,); used where ``uses_bias``.
        """
        features, weight = to_full(features), to_full(weight)
        bias = to_full(bias) if self.uses_bias and bias is not None else None
        classes = class_numbers(target, features)
        values = self.values(features, weight, classes, bias)
        return self.reduce(values, self.weights_of(classes, len(weight)))

    def on_head(self, features: Tensor, head: Head, target: Tensor) -> Tensor:
        """The loss with the weights of the network's last layer."""
        return self(features, head.weight, target, head.bias)


def length(vectors: Tensor) -> Tensor:
    """Euclidean length over the last axis, which stays with size 1; its gradient at zero is zero."""
    return torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)


def unit(vectors: Tensor, eps: float = 1e-6) -> Tensor:
    """Vectors of unit length; those shorter than ``eps`` become zero, with zero gradient."""
    norm = length(vectors)
    return torch.where(norm > eps, vectors / norm.clamp_min(eps), 0.0)


def cosine(features: Tensor, weight: Tensor) -> Tensor:
    """Cosine of the angle between each feature vector (B, F) and each class's weights (K, F): (B, K)."""
    return F.linear(unit(features), unit(weight))


def with_target(logits: Tensor, classes: Tensor, target_logit: Tensor) -> Tensor:
    """``logits`` (B, K) with those of the true classes replaced by ``target_logit`` (B,)."""
    return logits.scatter(1, classes[:, None], target_logit[:, None])
