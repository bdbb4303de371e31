"""What the classification losses share: class numbers, class weights and the reduction over a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medresnet3d.errors import ConfigError, DataError

REDUCTIONS = ("mean", "sum", "none")


def class_numbers(target: Tensor, output: Tensor) -> Tensor:
    """The class number of each place of an output, in the form that indexing needs.

    Args:
        target: class numbers of any type, (B, ...) or (B, 1, ...).
        output: logits, (B, K, ...).

    Returns:
        int64, (B, ...).

    Raises:
        DataError: if the shapes do not fit each other.
    """
    places = output.shape[:1] + output.shape[2:]
    if target.ndim == output.ndim and target.shape[1] == 1:
        target = target[:, 0]
    if target.shape != places:
        raise DataError(
            f"The target has the shape {tuple(target.shape)}, but class numbers for an output of shape "
            f"{tuple(output.shape)} have the shape {tuple(places)}; check the labels of the data set."
        )
    return target.long()


def to_full(tensor: Tensor) -> Tensor:
    """``tensor`` in fp32 if it is in bf16 or fp16, else as it is."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


class ClassWeightedLoss(nn.Module):
    r"""A loss with a value for each sample (or place of a dense output), weighted by class and reduced over the batch.

    .. math:: L = \frac{\sum_n w_{y_n} \ell_n}{\sum_n w_{y_n}} \quad\text{(mean)}, \qquad
              L = \sum_n w_{y_n} \ell_n \quad\text{(sum)}

    as in ``torch.nn.CrossEntropyLoss``. Class weights come from the configuration, so they are no part of the state.

    Args:
        class_weights: one positive weight for each class; ``None``: all equal.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ConfigError: if a weight is not positive or the reduction is unknown.
    """

    class_weights: Tensor | None

    def __init__(self, class_weights: Sequence[float] | None = None, reduction: str = "mean") -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ConfigError(f"reduction {reduction!r} is unknown; choose one of {', '.join(REDUCTIONS)}.")
        if class_weights is not None and not all(weight > 0 for weight in class_weights):
            raise ConfigError(f"class_weights is {list(class_weights)}; every weight must be positive.")
        self.reduction = reduction
        weights = None if class_weights is None else torch.tensor([float(weight) for weight in class_weights])
        self.register_buffer("class_weights", weights, persistent=False)

    def weights_for(self, number: int) -> Tensor | None:
        """The weights, (number,); ``None`` where all are equal.

        Raises:
            ConfigError: if there are not ``number`` class weights.
        """
        if self.class_weights is not None and len(self.class_weights) != number:
            raise ConfigError(
                f"class_weights has {len(self.class_weights)} entries, but there are {number} classes; "
                "give one weight for each class."
            )
        return self.class_weights

    def weights_of(self, classes: Tensor, number: int) -> Tensor | None:
        """The weight of each of ``classes`` out of ``number``; ``None`` where all are equal."""
        weights = self.weights_for(number)
        return None if weights is None else weights[classes]

    def reduce(self, values: Tensor, weights: Tensor | None) -> Tensor:
        """Weight and reduce ``values``; both of one shape."""
        weighted = values if weights is None else values * weights
        if self.reduction == "none":
            return weighted
        if self.reduction == "sum":
            return weighted.sum()
        return weighted.mean() if weights is None else weighted.sum() / weights.sum()
