"""Focal loss: cross-entropy that turns away from what is easy.

Paper: T.-Y. Lin, P. Goyal, R. Girshick, K. He, P. Dollar. Focal loss for dense object detection. ICCV 2017.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.losses.focal_loss import sigmoid_focal_loss
from torch import Tensor

from medresnet3d.errors import ConfigError
from medresnet3d.losses.class_weights import ClassWeightedLoss, class_numbers, to_full

FORMS = ("softmax", "sigmoid")


class FocalLoss(ClassWeightedLoss):
    r"""Focal loss.

    .. math:: \ell = -\alpha_y \, (1 - p_y)^\gamma \log p_y

    In the softmax form p is the softmax over the classes; gamma = 0 without alpha is cross-entropy. In the sigmoid
    form, the paper's, each class is a question of its own against all others, and a sample's value is the sum over
    classes; it is MONAI's. ``monai.losses.FocalLoss(use_softmax=True)`` averages over classes too, and so is K times
    smaller than the softmax form here. A network with a single logit has the sigmoid form.

    Args:
        gamma: how strongly easy samples are turned down.
        alpha: balance; a number is the paper's alpha for every class but the first (background or negative), which gets
            1 - alpha (sigmoid form: alpha for the true class, 1 - alpha for the others); a list has one for each
            class; ``None``: no balance. The paper has 0.25.
        form: ``"softmax"`` or ``"sigmoid"``.
        class_weights: one positive weight for each class, by which the mean is taken too, unlike by alpha.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``: over samples or places.

    Raises:
        ConfigError: if ``form`` is unknown or ``gamma`` is negative.
    """

    alpha: Tensor | None

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float | Sequence[float] | None = None,
        form: str = "softmax",
        class_weights: Sequence[float] | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(class_weights, reduction)
        if form not in FORMS:
            raise ConfigError(f"form {form!r} is unknown; choose one of {', '.join(FORMS)}.")
        if gamma < 0:
            raise ConfigError(f"gamma is {gamma}; it must not be negative.")
        self.gamma = gamma
        self.form = form
        self.register_buffer("alpha", None if alpha is None else torch.tensor(alpha), persistent=False)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            output: logits, (B, K, ...).
            target: class numbers, (B, ...) or (B, 1, ...).
        """
        output, number = to_full(output), output.shape[1]
        classes = class_numbers(target, output)
        if self.alpha is not None and self.alpha.ndim and len(self.alpha) != number:
            raise ConfigError(f"alpha has {len(self.alpha)} entries, but there are {number} logits; give one for each.")
        values = (
            self._softmax(output, classes) if self.form == "softmax" and number > 1 else self._sigmoid(output, classes)
        )
        return self.reduce(values, self.weights_of(classes, max(number, 2)))

    def _softmax(self, output: Tensor, classes: Tensor) -> Tensor:
        surprise = F.cross_entropy(output, classes, reduction="none")
        # the floor keeps the derivative of a power below 1 finite where the probability is 1
        missing = (-torch.expm1(-surprise)).clamp_min(torch.finfo(output.dtype).tiny)
        values = missing**self.gamma * surprise
        if self.alpha is None:
            return values
        balance = torch.where(classes > 0, self.alpha, 1 - self.alpha) if not self.alpha.ndim else self.alpha[classes]
        return values * balance

    def _sigmoid(self, output: Tensor, classes: Tensor) -> Tensor:
        number = output.shape[1]
        truth = classes.unsqueeze(1) if number == 1 else torch.movedim(F.one_hot(classes, number), -1, 1)
        return sigmoid_focal_loss(output, truth.to(output.dtype), self.gamma, self.alpha).sum(1)
