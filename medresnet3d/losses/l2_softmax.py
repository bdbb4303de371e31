"""L2-constrained softmax.

Paper: R. Ranjan, C. D. Castillo, R. Chellappa. L2-constrained softmax loss for discriminative face verification.
arXiv:1703.09507 (2017).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from medresnet3d.errors import ConfigError
from medresnet3d.losses.margin import Head, MarginLoss, unit


def smallest_alpha(classes: int, probability: float = 0.9) -> float:
    r"""The paper's lower bound of alpha, below which the true class cannot reach ``probability``.

    .. math:: \alpha \geq \ln \frac{p (C - 2)}{1 - p}

    Raises:
        ConfigError: if there are fewer than three classes, for which the bound says nothing.
    """
    if classes < 3:
        raise ConfigError(f"The bound of alpha needs at least 3 classes, not {classes}.")
    return math.log(probability * (classes - 2) / (1 - probability))


class L2SoftmaxLoss(MarginLoss):
    r"""Softmax loss of features that have the length alpha.

    .. math:: z = W \frac{\alpha \, x}{\lVert x \rVert} + b

    A learned alpha adds no function to the network, since the length of W is free: alpha and W give the logits of
    alpha' and W alpha / alpha'. It changes the way there. As the loss owns no weights, a learned one belongs to the
    last layer: call ``network.classifier.learn_feature_scale(start)`` before the optimizer is made, and give
    ``learned=True``.

    Args:
        alpha: length of the features.
        learned: take the last layer's own learned length instead.
        class_weights: one positive weight for each class.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ConfigError: if ``alpha`` is not positive.
    """

    uses_bias: ClassVar[bool] = True

    def __init__(
        self,
        alpha: float = 16.0,
        learned: bool = False,
        class_weights: Sequence[float] | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(class_weights, reduction)
        if alpha <= 0:
            raise ConfigError(f"alpha is {alpha}; the length of features must be positive.")
        self.alpha, self.learned = alpha, learned

    def prepare(self, head: Head) -> None:
        """Let the network's last layer bring features to the length alpha.

        Raises:
            ConfigError: if alpha is to be learned and the layer has no parameter for it, or the other way round.
        """
        if self.learned != isinstance(head.feature_scale, nn.Parameter):
            raise ConfigError(
                f"l2_softmax has learned={self.learned}, which does not fit the network's last layer; call "
                "`network.classifier.learn_feature_scale(start)` before the optimizer is made and set learned=True, "
                "or do neither."
            )
        head.set_mode(feature_scale=self.alpha)

    def logits(self, features: Tensor, weight: Tensor, classes: Tensor, bias: Tensor | None) -> Tensor:
        """Logits (B, K) of features of length alpha."""
        return F.linear(self.alpha * unit(features), weight, bias)

    def on_head(self, features: Tensor, head: Head, target: Tensor) -> Tensor:
        """The loss with the weights of the network's last layer, and its learned alpha."""
        if not self.learned:
            return super().on_head(features, head, target)
        return self(features, head.feature_scale / self.alpha * head.weight, target, head.bias)
