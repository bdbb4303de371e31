"""What L-Softmax and A-Softmax share: the angular margin function and its annealing.

Papers: W. Liu, Y. Wen, Z. Yu, M. Yang. Large-margin softmax loss for convolutional neural networks. ICML 2016.
W. Liu, Y. Wen, Z. Yu, M. Li, B. Raj, L. Song. SphereFace: deep hypersphere embedding for face recognition. CVPR 2017.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from medresnet3d.errors import ConfigError
from medresnet3d.losses.margin import Head, MarginLoss, length, unit, with_target

_EPS = 1e-12  # no product of lengths in fp32 that matters is shorter


def angular_margin(cosine: Tensor, margin: int) -> Tensor:
    r"""The function psi that takes the place of the cosine for the true class.

    .. math:: \psi(\theta) = (-1)^k \cos(m \theta) - 2k, \qquad \theta \in [k\pi/m, (k+1)\pi/m], \; k = 0 \dots m-1

    It falls from 1 to 1 - 2m. The cosine of the multiple angle is a Chebyshev polynomial of the cosine, so that no
    arc cosine is taken, whose derivative is infinite at 0 and pi.

    Args:
        cosine: of the angle theta, any shape.
        margin: m, at least 1; 1 is the cosine itself.
    """
    before, polynomial = torch.ones_like(cosine), cosine
    for _ in range(margin - 1):
        before, polynomial = polynomial, 2 * cosine * polynomial - before
    section = torch.zeros_like(cosine)
    for k in range(1, margin):
        section = section + (cosine < math.cos(k * math.pi / margin))
    return (1 - 2 * (section % 2)) * polynomial - 2 * section


class AngularMarginLoss(MarginLoss):
    r"""Base of the two losses with an angular margin, which is faded in by a weight lambda that falls from large.

    .. math:: f_y = r_y \, \frac{\lambda \cos\theta_y + \psi(\theta_y)}{1 + \lambda}, \qquad f_j = r_j \cos\theta_j

    where r is the length of the features times that of the class's weights. A training call counts as one step of the
    fall; the count is a buffer, so a resumed run goes on with the same lambda.

    Args:
        margin: m, a whole number; 1 is no margin.
        class_weights: one positive weight for each class.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ConfigError: if ``margin`` is no whole number of at least 1.
    """

    unit_weights: ClassVar[bool]
    step: Tensor

    def __init__(self, margin: int = 4, class_weights: Sequence[float] | None = None, reduction: str = "mean") -> None:
        super().__init__(class_weights, reduction)
        if margin < 1 or int(margin) != margin:
            raise ConfigError(f"margin is {margin}; an angular margin is a whole number from 1 (no margin) on.")
        self.margin = int(margin)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def annealing(self, step: Tensor) -> Tensor:
        """Lambda at a step (int64 tensor); a subclass defines it."""
        raise NotImplementedError

    def prepare(self, head: Head) -> None:
        """Put the network's last layer into the mode that belongs to this loss; may be called again."""
        head.set_mode(unit_weights=self.unit_weights, bias=False)

    def logits(self, features: Tensor, weight: Tensor, classes: Tensor, bias: Tensor | None) -> Tensor:
        """Logits (B, K); in training mode with the margin, and counted as a step."""
        weight = unit(weight) if self.unit_weights else weight
        logits = F.linear(features, weight)
        if not self.training:
            return logits
        radius = (length(features) * length(weight)[classes])[:, 0]
        plain = logits.gather(1, classes[:, None])[:, 0]
        narrowed = radius * angular_margin(plain / radius.clamp_min(_EPS), self.margin)
        fade = self.annealing(self.step)
        self.step += 1
        return with_target(logits, classes, (fade * plain + narrowed) / (1 + fade))
