"""Losses of a network that labels voxels and classifies at once, and of one among several outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn


class OutputLoss(nn.Module):
    """A loss of one of a network's outputs; the others go without.

    Args:
        loss: called with that output and the target.
        output: its number; in eval mode a network gives the first alone.
    """

    def __init__(self, loss: nn.Module, output: int = 0) -> None:
        super().__init__()
        self.loss, self.output = loss, output

    def forward(self, outputs: Tensor | Sequence[Tensor], target: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Give the loss, a scalar; of a mapping as target its ``label`` counts."""
        chosen = outputs if isinstance(outputs, Tensor) else outputs[self.output]
        return torch.as_tensor(self.loss(chosen, target["label"] if isinstance(target, Mapping) else target))


class KnownMaskLoss(nn.Module):
    """A loss of dense logits, of those items of a batch alone that have a mask.

    Args:
        loss: called with the dense logits (B, K, ...), or a list of them, and the masks.
        first: number of the network's first output that is dense; what stands in front of it goes without.
    """

    def __init__(self, loss: nn.Module, first: int = 0) -> None:
        super().__init__()
        self.loss, self.first = loss, first

    def forward(self, outputs: Tensor | Sequence[Tensor], mask: Tensor) -> Tensor:
        """Give the loss, a scalar; a mask (1, ...) that is unknown is below 0 everywhere."""
        known = mask.flatten(1).amin(1) >= 0
        dense = [outputs] if isinstance(outputs, Tensor) else list(outputs[self.first :])
        if not bool(known.any()):
            return torch.stack([each.sum() for each in dense]).sum() * 0.0
        chosen = [each[known] for each in dense]
        return torch.as_tensor(self.loss(chosen if len(chosen) > 1 else chosen[0], mask[known]))


class MultitaskLoss(nn.Module):
    r"""Dice and cross-entropy of the foreground, plus the weighted loss of a class.

    .. math:: L = L_\text{Dice+CE}\bigl(p(\text{any label}), m\bigr) + \lambda\, L_\text{class}(z, y)

    Labels of parts count as one foreground, so that any mask of the whole will do. Items without a mask have the second
    term alone. M. Liu et al. (2020) train both tasks jointly; the form of the sum and :math:`\lambda = 1` are ours.

    Args:
        classification: loss of the logits and the class.
        weight: :math:`\lambda`.
        logits: number of the output with the logits.
        dense: number of the output with dense logits (B * S, K, ...), class 0 the background.
    """

    def __init__(self, classification: nn.Module, weight: float = 1.0, logits: int = 1, dense: int = 3) -> None:
        super().__init__()
        self.classification, self.weight = classification, weight
        self.logits, self.dense = logits, dense
        self.segmentation = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False, batch=True)

    def forward(self, outputs: Sequence[Tensor], target: Mapping[str, Tensor]) -> Tensor:
        """Give the loss, a scalar.

        Args:
            outputs: of the network.
            target: ``label``, class numbers (B,), and ``mask`` (B, S, ...), above 0 where the structure is, and
                below 0 everywhere in an item that has none.
        """
        total = self.weight * self.classification(outputs[self.logits], target["label"])
        mask = target["mask"].flatten(0, 1).unsqueeze(1)
        known = mask.flatten(1).amin(1) >= 0
        if bool(known.any()):
            dense = outputs[self.dense][known]
            parts = torch.cat([dense[:, :1], dense[:, 1:].logsumexp(1, keepdim=True)], dim=1)
            total = total + self.segmentation(parts, (mask[known] > 0).float())
        return torch.as_tensor(total)


class LabelsAndMasks:
    """Gives images, and class and mask together as the target: ``prepare_batch`` for :class:`MultitaskLoss`."""

    def __call__(
        self, batch: Mapping[str, Any], device: str | torch.device | None = None, non_blocking: bool = False, **_: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Take a batch with ``image``, ``label`` and ``mask`` apart."""
        image, label, mask = (
            torch.as_tensor(batch[key]).to(device, non_blocking=non_blocking) for key in ("image", "label", "mask")
        )
        return image, {"label": label, "mask": mask}
