"""Angular softmax (SphereFace).

Paper: W. Liu, Y. Wen, Z. Yu, M. Li, B. Raj, L. Song. SphereFace: deep hypersphere embedding for face recognition.
CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from medresnet3d.losses.angular_margin import AngularMarginLoss


class ASoftmaxLoss(AngularMarginLoss):
    r"""A-Softmax: L-Softmax with weights of unit length, so that the angle alone tells the classes apart.

    .. math:: f_y = \lVert x \rVert \frac{\lambda \cos\theta_y + \psi(\theta_y)}{1 + \lambda}, \qquad
              f_j = \lVert x \rVert \cos\theta_j, \qquad
              \lambda_t = \max(\lambda_\text{min}, \lambda_0 (1 + \gamma t)^{-p})

    There is no bias; the network answers with the cosines times the features' length. The defaults of the fall of
    lambda reach their floor at step 1659; within a short training take a larger ``gamma``.

    Args:
        margin: m, a whole number.
        start: lambda at the first step.
        gamma: how fast lambda falls.
        power: p.
        minimum: its floor.
        class_weights: one positive weight for each class.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
    """

    unit_weights: ClassVar[bool] = True

    def __init__(
        self,
        margin: int = 4,
        start: float = 1000.0,
        gamma: float = 0.12,
        power: float = 1.0,
        minimum: float = 5.0,
        class_weights: Sequence[float] | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(margin, class_weights, reduction)
        self.start, self.gamma, self.power, self.minimum = start, gamma, power, minimum

    def annealing(self, step: Tensor) -> Tensor:
        """Lambda at a step."""
        return (self.start * (1 + self.gamma * step.double()) ** -self.power).clamp_min(self.minimum)
