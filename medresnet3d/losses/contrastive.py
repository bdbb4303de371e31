"""Contrastive loss of pairs of samples.

Paper: R. Hadsell, S. Chopra, Y. LeCun. Dimensionality reduction by learning an invariant mapping. CVPR 2006.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.losses.class_weights import class_numbers, to_full
from medresnet3d.losses.margin import MarginLoss

PAIRS = ("all", "adjacent")


def contrastive(first: Tensor, second: Tensor, dissimilar: Tensor, margin: float = 1.0) -> Tensor:
    r"""Hadsell's loss of each pair.

    .. math:: \ell = \tfrac12 (1 - Y) D^2 + \tfrac12 Y \max(0, m - D)^2, \qquad D = \lVert f_1 - f_2 \rVert

    Where features of a dissimilar pair coincide, the direction to part them is undefined and the gradient zero.

    Args:
        first: features of the first of each pair, (P, F).
        second: of the second.
        dissimilar: Y, 1 or true for a dissimilar pair, (P,).
        margin: m.

    Returns:
        (P,).
    """
    square = (first - second).square().sum(1)
    distance = torch.where(square > 0, square, 1.0).sqrt() * (square > 0)  # no infinite slope of the root at zero
    return 0.5 * torch.where(dissimilar.bool(), (margin - distance).clamp_min(0).square(), square)


class ContrastiveLoss(MarginLoss):
    r"""Softmax loss plus Hadsell's contrastive loss over pairs of a batch; see :func:`contrastive`.

    .. math:: L = \lambda_s L_\text{softmax} + \lambda_c L_\text{contrastive}

    The contrastive loss alone does not train the last layer, so a classifier has both (as in Y. Sun et al. Deep
    learning face representation by joint identification-verification. NIPS 2014); with ``softmax_weight=0`` it is
    Hadsell's alone, for a network whose features are what is wanted. A pair is dissimilar when its classes differ. It
    is not ``monai.losses.ContrastiveLoss``, which is SimCLR's.

    Args:
        margin: m, the distance from which a dissimilar pair costs nothing.
        weight: factor of the contrastive loss.
        softmax_weight: factor of the softmax loss.
        pairs: ``"all"``: all B (B - 1) / 2 pairs of a batch, in a distributed run of each process's own batch;
            ``"adjacent"``: the pairs that the loader gives, samples 0 and 1, 2 and 3, ...
        class_weights: one positive weight for each class; for the softmax loss.
        reduction: ``"mean"`` or ``"sum"``: over samples in the softmax loss, over pairs in the contrastive one.

    Raises:
        ConfigError: if ``pairs`` is unknown or the reduction is ``"none"``.
    """

    uses_bias: ClassVar[bool] = True

    def __init__(
        self,
        margin: float = 1.0,
        weight: float = 1.0,
        softmax_weight: float = 1.0,
        pairs: str = "all",
        class_weights: Sequence[float] | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(class_weights, reduction)
        if pairs not in PAIRS:
            raise ConfigError(f"pairs {pairs!r} is unknown; choose one of {', '.join(PAIRS)}.")
        if reduction == "none":
            raise ConfigError('reduction is "none", but there are not as many pairs as samples; use "mean" or "sum".')
        self.margin, self.weight, self.softmax_weight, self.pairs = margin, weight, softmax_weight, pairs

    def forward(self, features: Tensor, weight: Tensor, target: Tensor, bias: Tensor | None = None) -> Tensor:
        """Compute the loss; arguments as those of :class:`medresnet3d.losses.margin.MarginLoss`."""
        softmax = super().forward(features, weight, target, bias)
        features, classes = to_full(features), class_numbers(target, features)
        first, second = self._pairs(len(classes), features.device)
        values = contrastive(features[first], features[second], classes[first] != classes[second], self.margin)
        total = values.sum()
        if self.reduction == "mean":
            total = total / max(1, len(first))
        return self.softmax_weight * softmax + self.weight * total

    def _pairs(self, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Numbers of the first and of the second samples of the pairs."""
        if self.pairs == "all":
            first, second = torch.triu_indices(batch, batch, 1, device=device)
            return first, second
        if batch % 2:
            raise DataError(f"A batch of {batch} samples is no set of pairs; give the loader an even batch size.")
        return torch.arange(0, batch, 2, device=device), torch.arange(1, batch, 2, device=device)
