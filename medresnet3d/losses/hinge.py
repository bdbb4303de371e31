"""Hinge losses, for two classes by one output and for several classes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from medresnet3d.errors import ConfigError
from medresnet3d.losses.class_weights import ClassWeightedLoss, class_numbers, to_full

OVER_CLASSES = ("sum", "mean", "max")


class HingeLoss(ClassWeightedLoss):
    r"""Hinge loss: a sample costs nothing once its class is ahead of the others by the margin m.

    .. math:: \ell = \max(0, m - y f), \; y = \pm 1 \qquad
              \ell = \sum_{j \neq y} \max(0, m - f_y + f_j)

    on the left for a single output, on the right for several. The sum over the other classes is the form of J. Weston
    and C. Watkins (Support vector machines for multi-class pattern recognition. ESANN 1999); ``"mean"`` divides it by
    the number of classes K as ``torch.nn.MultiMarginLoss`` does; ``"max"`` takes the worst class alone, as K. Crammer
    and Y. Singer (On the algorithmic implementation of multiclass kernel-based vector machines. JMLR 2 (2001)).

    Args:
        margin: m.
        over_classes: ``"sum"``, ``"mean"`` or ``"max"``.
        class_weights: one positive weight for each class (two with a single output).
        reduction: ``"mean"``, ``"sum"`` or ``"none"``: over samples.

    Raises:
        ConfigError: if ``over_classes`` is unknown.
    """

    def __init__(
        self,
        margin: float = 1.0,
        over_classes: str = "sum",
        class_weights: Sequence[float] | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(class_weights, reduction)
        if over_classes not in OVER_CLASSES:
            raise ConfigError(f"over_classes {over_classes!r} is unknown; choose one of {', '.join(OVER_CLASSES)}.")
        self.margin = margin
        self.over_classes = over_classes

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            output: scores f, (B, K, ...).
            target: class numbers, (B, ...) or (B, 1, ...); with a single output, 1 against 0 or -1.
        """
        output, number = to_full(output), output.shape[1]
        classes = class_numbers(target, output)
        if number == 1:
            classes = classes.clamp_min(0)
            values = (self.margin - (2 * classes - 1) * output[:, 0]).clamp_min(0)
            return self.reduce(values, self.weights_of(classes, 2))
        own = classes.unsqueeze(1)
        violations = (self.margin - output.gather(1, own) + output).clamp_min(0).scatter(1, own, 0.0)
        values = violations.amax(1) if self.over_classes == "max" else violations.sum(1)
        if self.over_classes == "mean":
            values = values / number
        return self.reduce(values, self.weights_of(classes, number))
