"""Agreement of grades while a network trains, as an ignite metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from ignite.metrics import Metric
from ignite.metrics.metric import sync_all_reduce

from medresnet3d.metrics.classification import quadratic_kappa


class QuadraticKappa(Metric):
    """Cohen's kappa with quadratic weights over all cases of a validation; a key metric of an evaluator.

    In a configuration::

        "key_metric": {"quadratic_kappa": {"_target_": "medresnet3d.metrics.QuadraticKappa",
                                           "num_classes": 5,
                                           "output_transform": {"_target_": "monai.handlers.from_engine",
                                                                "keys": ["pred", "label"]}}}

    Where truth and answers are all of one class, kappa is undefined and given as 0, since such a validation says
    nothing. With several processes all cases count once.

    Args:
        num_classes: C, classes in their order.
        output_transform: from the engine's output to probabilities and one-hot truths, (C,) each.
    """

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
        """Give the kappa of all cases of all processes."""
        kappa = float(quadratic_kappa(self._confusion.cpu().numpy()))
        return kappa if kappa == kappa else 0.0
