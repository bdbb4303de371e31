"""Figures of a confusion matrix that a classifier is validated by while it trains, as ignite metrics."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from ignite.metrics import Metric
from ignite.metrics.metric import sync_all_reduce

from medresnet3d.metrics.classification import quadratic_kappa


class ConfusionFigure(Metric):
    """Base of figures of the confusion matrix of all cases; with several processes each case counts once.

    A subclass has ``figure``, from the matrix to a number.

    Args:
        num_classes: K.
        output_transform: from the engine's output to two lists: logits or probabilities (K,) and truths one-hot (K,).
        device: where to count.
    """

    _state_dict_all_req_keys = ("_confusion",)

    def __init__(
        self, num_classes: int, output_transform: Callable[..., Any] = lambda output: output, device: str = "cpu"
    ) -> None:
        self.num_classes = num_classes
        self._confusion = torch.zeros(num_classes, num_classes)
        super().__init__(output_transform, device=device)

    def reset(self) -> None:
        """Forget all cases."""
        self._confusion = torch.zeros(self.num_classes, self.num_classes, device=self._device)

    def update(self, output: tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]) -> None:
        """Add the cases of a batch."""
        for answer, truth in zip(*output, strict=True):
            self._confusion[int(truth.argmax()), int(answer.argmax())] += 1

    @sync_all_reduce("_confusion")
    def compute(self) -> float:
        """Give the figure of all cases of all processes."""
        return float(self.figure(self._confusion))

    @abstractmethod
    def figure(self, confusion: torch.Tensor) -> torch.Tensor:
        """The figure of a matrix (K, K) of numbers of cases: rows are truths, columns answers."""


class MeanClassAccuracy(ConfusionFigure):
    """Share of each class that is answered rightly, averaged over the classes that occur: balanced accuracy.

    The HEp-2 contests call it mean class accuracy. In a configuration::

        "key_metric": {"mean_class_accuracy": {"_target_": "medresnet3d.metrics.MeanClassAccuracy",
                                               "num_classes": 6,
                                               "output_transform": {"_target_": "monai.handlers.from_engine",
                                                                    "keys": ["pred", "label"]}}}

    Arguments are those of :class:`ConfusionFigure`. NaN without any case.
    """

    def figure(self, confusion: torch.Tensor) -> torch.Tensor:
        """See :class:`ConfusionFigure`."""
        occurs = confusion.sum(1) > 0
        return (confusion.diagonal()[occurs] / confusion.sum(1)[occurs]).mean()


class QuadraticKappa(ConfusionFigure):
    """Cohen's kappa with quadratic weights: agreement of grades, in which a far mistake counts more than a near one.

    Arguments are those of :class:`ConfusionFigure`, classes in their order. Where truths and answers are all of one
    class kappa is undefined and given as 0, since such a validation says nothing.
    """

    def figure(self, confusion: torch.Tensor) -> torch.Tensor:
        """See :class:`ConfusionFigure`."""
        return torch.tensor(float(quadratic_kappa(confusion.cpu().numpy()))).nan_to_num(0.0)


class TreeDistance(ConfusionFigure):
    """How far answers are from the truth in a tree of two levels, averaged over all cases.

    A right answer counts 0, one in the right group 1, one in another group 2.

    Args:
        groups: the group (0, 1, ...) of each class.
        output_transform: see :class:`ConfusionFigure`.
        device: where to count.
    """

    def __init__(
        self, groups: Sequence[int], output_transform: Callable[..., Any] = lambda output: output, device: str = "cpu"
    ) -> None:
        self.groups = torch.tensor(list(groups))
        super().__init__(len(groups), output_transform, device)

    def figure(self, confusion: torch.Tensor) -> torch.Tensor:
        """See :class:`ConfusionFigure`."""
        other_group = self.groups[:, None] != self.groups
        distance = (1 - torch.eye(self.num_classes) + other_group).to(confusion)
        return (distance * confusion).sum() / confusion.sum()
