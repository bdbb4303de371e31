"""Large-margin softmax.

Paper: W. Liu, Y. Wen, Z. Yu, M. Yang. Large-margin softmax loss for convolutional neural networks. ICML 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from medresnet3d.losses.angular_margin import AngularMarginLoss


class LSoftmaxLoss(AngularMarginLoss):
    r"""L-Softmax: the logit of the true class as if its angle were m times as large; lengths of weights stay free.

    .. math:: f_y = \lVert W_y \rVert \lVert x \rVert \frac{\lambda \cos\theta_y + \psi(\theta_y)}{1 + \lambda}, \qquad
              f_j = W_j x, \qquad \lambda_t = \max(\lambda_\text{min}, \lambda_0 \, \rho^t)

    There is no bias. The defaults of the fall of lambda are those of a public PyTorch port; the paper says only that it
    falls. Within a short training set ``decay`` so that lambda gets small, e.g. ``0.01 ** (2 / steps)``.

    Args:
        margin: m, a whole number.
        start: lambda at the first step.
        decay: rho, its factor at each step.
        minimum: its floor.
        class_weights: one positive weight for each class.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
    """

    unit_weights: ClassVar[bool] = False

    def __init__(
        self,
        margin: int = 2,
        start: float = 100.0,
        decay: float = 0.99,
        minimum: float = 0.0,
        class_weights: Sequence[float] | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(margin, class_weights, reduction)
        self.start, self.decay, self.minimum = start, decay, minimum

    def annealing(self, step: Tensor) -> Tensor:
        """Lambda at a step."""
        return (self.start * self.decay ** step.double()).clamp_min(self.minimum)
