"""Deep supervision: a loss on the main output and, with fading weight, on the auxiliary ones.

Paper: H. Chen et al. VoxResNet. NeuroImage 170 (2018) 446-455; the weights of its auxiliary classifiers start at 1 and
fade to about 0.001.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from medresnet3d.losses.margin import MarginLoss


class FadingDeepSupervisionLoss(nn.Module):
    r"""Main loss plus auxiliary losses whose common weight fades geometrically over training.

    .. math:: L = \ell(y_0, t) + w_s \sum_{a \geq 1} \ell(y_a, t), \qquad
              w_s = w_\text{start} \, (w_\text{end} / w_\text{start})^{\min(1, s / S)}

    where s counts the training calls so far. The count is a buffer, so it is saved with the loss's state and a resumed
    run goes on with the same weights. ``monai.losses.DeepSupervisionLoss`` has fixed weights, one for each output.

    Args:
        loss: loss of one output, called as ``loss(logits, target)``, e.g. ``monai.losses.DiceCELoss``.
        steps: S, the training calls over which the weight fades.
        start: first auxiliary weight; 0 switches the auxiliary losses off.
        end: last auxiliary weight.

    Raises:
        ValueError: if ``steps`` is not positive, a weight is negative or ``loss`` is one on features.

    Example:
        >>> from monai.losses import DiceCELoss
        >>> loss = FadingDeepSupervisionLoss(DiceCELoss(softmax=True, to_onehot_y=True), steps=100)
        >>> float(loss.weight)
        1.0
    """

    step: torch.Tensor

    def __init__(self, loss: nn.Module, steps: int = 1000, start: float = 1.0, end: float = 1e-3) -> None:
        super().__init__()
        if steps <= 0:
            raise ValueError(f"steps is {steps}; it must be positive.")
        if isinstance(loss, MarginLoss):
            raise ValueError(f"{type(loss).__name__} works on the features of one last layer, not on several outputs.")
        if start < 0 or end < 0:
            raise ValueError(f"the auxiliary weights are {start} and {end}; they must not be negative.")
        self.loss = loss
        self.steps, self.start, self.end = steps, start, end
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    @property
    def weight(self) -> float:
        """The auxiliary weight at the present step."""
        if self.start == 0:
            return 0.0
        progress = min(1.0, int(self.step) / self.steps)
        return float(self.start * (self.end / self.start) ** progress)

    def forward(self, outputs: torch.Tensor | Sequence[torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        """Compute the loss; in training mode, each call with auxiliary outputs counts as one step.

        Args:
            outputs: logits (B, K, ...), or the main logits followed by the auxiliary ones, all of one size.
            target: truth in the form that ``loss`` wants.

        Returns:
            Scalar.
        """
        if isinstance(outputs, torch.Tensor):
            return torch.as_tensor(self.loss(outputs, target))
        total = self.loss(outputs[0], target)
        weight = self.weight
        if weight > 0:
            total = total + weight * sum(self.loss(auxiliary, target) for auxiliary in outputs[1:])
        if self.training:
            self.step += 1
        return torch.as_tensor(total)
