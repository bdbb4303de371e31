"""The hybrid loss of a network with a head for centres and a head for masks.

After Y. Yao, J. Zhang (2019), "hybrid loss"; that it is a loss of voxels and one of regions is our reading. The weight
of a voxel by its error for soft truths: X. Li et al. Generalized focal loss. NeurIPS 2020. Dice: F. Milletari et al.
V-Net. 3DV 2016.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.losses import DiceLoss
from torch import Tensor, nn
from torch.nn import functional

from medresnet3d.errors import ConfigError

PARTS = ("bce", "focal", "dice")


class HybridDetectionLoss(nn.Module):
    r"""A loss of the voxels of a heat map plus the Dice loss of a mask.

    With the logits a of centres, their heat h from 0 to 1 and p the sigmoid of a,

    .. math:: \ell_\text{voxel} = \frac{\sum_v |h_v - p_v|^\gamma \, w_v \operatorname{BCE}(a_v, h_v)}
              {\max(1, \sum_v h_v)}, \qquad w_v = 1 + (w - 1) h_v

    ``bce`` has gamma = 0 and is divided by the number of voxels; ``focal`` turns away from the many voxels that are
    told already. ``dice`` is one minus the soft Dice coefficient of the masks of a batch.

    Args:
        parts: ``"bce"`` or ``"focal"`` and ``"dice"``, in any order, or some of them: a part that is left out does not
            train its head.
        weights: of the parts, in their order; ``None``: 1 each.
        gamma: of ``focal``.
        centre_weight: w, how much more a centre weighs than a place far from any.

    Raises:
        ConfigError: if a part is unknown, occurs twice, or the numbers of parts and weights differ.
    """

    def __init__(
        self,
        parts: Sequence[str] = ("focal", "dice"),
        weights: Sequence[float] | None = None,
        gamma: float = 2.0,
        centre_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.weights = [1.0] * len(parts) if weights is None else [float(weight) for weight in weights]
        if not parts or set(parts) - set(PARTS) or len(set(parts)) < len(parts) or {"bce", "focal"} <= set(parts):
            raise ConfigError(f"the parts of the loss are {list(parts)}; choose bce or focal, and dice.")
        if len(self.weights) != len(parts) or min(self.weights) < 0:
            raise ConfigError(f"the weights are {self.weights} for {list(parts)}; give one for each, not below 0.")
        self.parts = list(parts)
        self.gamma, self.centre_weight = gamma, centre_weight
        self.dice = DiceLoss(sigmoid=True, batch=True)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            output: logits (B, 2, ...): of centres, and of masks.
            target: (B, 2, ...): heat from 0 to 1, and masks of 0 and 1.

        Returns:
            Scalar.
        """
        logits, heat = output[:, :1], target[:, :1].to(output.dtype)
        total = output.new_zeros(())
        for part, weight in zip(self.parts, self.weights, strict=True):
            if part == "dice":
                value = self.dice(output[:, 1:], target[:, 1:].to(output.dtype))
            else:
                value = self._voxels(logits, heat, focal=part == "focal")
            total = total + weight * value
        return total

    def _voxels(self, logits: Tensor, heat: Tensor, focal: bool) -> Tensor:
        values = functional.binary_cross_entropy_with_logits(logits, heat, reduction="none")
        values = values * (1 + (self.centre_weight - 1) * heat)
        if not focal:
            return values.mean()
        error = (heat - torch.sigmoid(logits)).abs().clamp_min(torch.finfo(values.dtype).tiny)
        return (error**self.gamma * values).sum() / heat.sum().clamp_min(1)
