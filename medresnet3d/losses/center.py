"""Centre loss: softmax loss plus the distance of features from the centre of their class.

Paper: Y. Wen, K. Zhang, Z. Li, Y. Qiao. A discriminative feature learning approach for deep face recognition.
ECCV 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor

from medresnet3d.losses.margin import Head, MarginLoss


class CenterLoss(MarginLoss):
    r"""Softmax loss plus lambda times half the squared distance of each sample's features from its class's centre.

    .. math:: \ell_i = \ell_i^\text{softmax} + \frac{\lambda}{2} \lVert x_i - c_{y_i} \rVert^2, \qquad
              c_j \leftarrow c_j - \alpha \frac{\sum_{i: y_i = j} (c_j - x_i)}{1 + n_j}

    where n_j is the number of samples of class j in the batch. The paper sums both terms over the batch, and so does
    ``reduction="sum"``; the mean of both has the same balance. The centres are no parameters: they are buffers that
    follow the rule after each training call, with the samples of all processes of a distributed run, and are saved with
    the loss's state. They start at zero.

    Args:
        weight: lambda.
        rate: alpha, how far a centre moves.
        class_weights: one positive weight for each class; for both terms, not for the centres.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
    """

    uses_bias: ClassVar[bool] = True
    centers: Tensor

    def __init__(
        self,
        weight: float = 0.003,
        rate: float = 0.5,
        class_weights: Sequence[float] | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(class_weights, reduction)
        self.weight, self.rate = weight, rate
        self.register_buffer("centers", torch.zeros(0, 0))

    def prepare(self, head: Head) -> None:
        """Leave the network's last layer linear, and make room for the centres."""
        super().prepare(head)
        self._make_room(head.weight)

    def _make_room(self, weight: Tensor) -> None:
        if self.centers.shape != weight.shape:
            self.centers = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device)

    def values(self, features: Tensor, weight: Tensor, classes: Tensor, bias: Tensor | None) -> Tensor:
        """The loss of each sample, (B,); in training mode the centres move afterwards."""
        self._make_room(weight)
        distance = 0.5 * (features - self.centers.to(features.dtype)[classes]).square().sum(1)
        if self.training:
            self._move(features.detach().float(), classes)
        return super().values(features, weight, classes, bias) + self.weight * distance

    @torch.no_grad()
    def _move(self, features: Tensor, classes: Tensor) -> None:
        ones = torch.ones_like(features[:, :1])
        number, dims = self.centers.shape
        sums = self.centers.new_zeros(number, dims + 1).index_add_(0, classes, torch.cat([features, ones], 1))
        if dist.is_initialized():
            dist.all_reduce(sums)
        total, count = sums[:, :dims], sums[:, dims:]
        self.centers = self.centers - self.rate * (count * self.centers - total) / (1 + count)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        saved = state_dict.get(f"{prefix}centers")
        if saved is not None and self.centers.numel() == 0:
            self._make_room(saved.to(self.centers.device))
        super()._load_from_state_dict(state_dict, prefix, *args)
