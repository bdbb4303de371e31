"""Large-margin cosine loss (CosFace).

Paper: H. Wang et al. CosFace: large margin cosine loss for deep face recognition. CVPR 2018.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from medresnet3d.errors import ConfigError
from medresnet3d.losses.margin import Head, MarginLoss, cosine, with_target


def smallest_scale(classes: int, probability: float = 0.9) -> float:
    r"""The paper's lower bound of s, below which the true class cannot reach ``probability`` at its own weights.

    .. math:: s \geq \frac{C - 1}{C} \ln \frac{(C - 1) P}{1 - P}
    """
    return (classes - 1) / classes * math.log((classes - 1) * probability / (1 - probability))


class CosFaceLoss(MarginLoss):
    r"""Cross-entropy of scaled cosines, the true class's less a margin.

    .. math:: f_y = s (\cos\theta_y - m), \qquad f_j = s \cos\theta_j

    There is no bias; the network answers with s times the cosines. The paper has s = 64 and m = 0.35 for thousands of
    faces; the default s of 30 is for few classes.

    Args:
        scale: s.
        margin: m.
        class_weights: one positive weight for each class.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ConfigError: if ``scale`` is not positive.
    """

    def __init__(
        self,
        scale: float = 30.0,
        margin: float = 0.35,
        class_weights: Sequence[float] | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(class_weights, reduction)
        if scale <= 0:
            raise ConfigError(f"scale is {scale}; it must be positive.")
        self.scale, self.margin = scale, margin

    def prepare(self, head: Head) -> None:
        """Let the network's last layer answer with scaled cosines."""
        head.set_mode(feature_scale=self.scale, unit_weights=True, bias=False)

    def logits(self, features: Tensor, weight: Tensor, classes: Tensor, bias: Tensor | None) -> Tensor:
        """Logits (B, K); in training mode with the margin."""
        cosines = cosine(features, weight)
        if self.training:
            cosines = with_target(cosines, classes, cosines.gather(1, classes[:, None])[:, 0] - self.margin)
        return self.scale * cosines
