"""Binary cross-entropy of the positives and of the negatives that are hardest just now.

Paper: A. Shrivastava, A. Gupta, R. Girshick. Training region-based object detectors with online hard example mining.
CVPR 2016. Here all positives stay, and only negatives are chosen.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from medresnet3d.errors import ConfigError


class HardNegativeLoss(nn.Module):
    """Binary cross-entropy over all positives of a batch and its hardest negatives.

    Args:
        ratio: negatives for each positive at most; without positives ``least`` of them are kept. ``None`` keeps all.
        least: negatives that are kept at least, where there are so many.

    Raises:
        ConfigError: if ``ratio`` is not above 0 or ``least`` is below 1.

    Example:
        >>> loss = HardNegativeLoss(ratio=1.0)
        >>> float(loss(torch.tensor([9.0, 0.0, -9.0]), torch.tensor([1, 0, 0]))) > 0.3
        True
    """

    def __init__(self, ratio: float | None = 3.0, least: int = 1) -> None:
        super().__init__()
        if (ratio is not None and ratio <= 0) or least < 1:
            raise ConfigError(f"ratio is {ratio} and least {least}; give a ratio above 0 and at least 1 negative.")
        self.ratio, self.least = ratio, least

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Compute the mean over the samples that are kept.

        Args:
            output: logits (B,) or (B, 1).
            target: 0 or 1, (B,) or (B, 1).
        """
        logits, truth = output.reshape(-1), target.reshape(-1).to(output.dtype)
        values = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        positive, negative = values[truth > 0.5], values[truth <= 0.5]
        if self.ratio is not None:
            count = min(max(int(self.ratio * len(positive)), self.least), len(negative))
            negative = negative.topk(count).values
        return torch.cat([positive, negative]).mean()
