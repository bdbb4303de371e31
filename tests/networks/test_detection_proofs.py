"""Whether dilations decide in the dense U-Net that detects nodules, where context tells what a disc is.

One seed with a margin, and five seeds with the interval of the difference. The arms of a comparison have equal
parameters and equal steps, and each its own learning rate from one short list.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from medresnet3d.networks.dense_unet import DenseUNet
from tests.networks.detection_toy import RATES, best_of, interval, train

SEEDS = range(5)
STEPS = 100


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def context_scenes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Discs that count only where a marker lies 20 pixels to their right.

    Returns:
        images (N, 1, 48, 48), and for every pixel of a disc whether it counts (0 or 1), -1 elsewhere.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    images, truth = 0.2 * torch.randn(count, 1, 48, 48, generator=generator), torch.full((count, 1, 48, 48), -1.0)
    rows, columns = torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij")
    for image, answer in zip(images[:, 0], truth[:, 0], strict=True):
        for band in range(2):
            row, column, counts = draw(8 + 22 * band, 18 + 22 * band), draw(6, 22), draw(0, 2)
            disc = (rows - row) ** 2 + (columns - column) ** 2 <= 9
            image[disc] += 1
            answer[disc] = counts
            if counts:
                image[row - 1 : row + 2, column + 19 : column + 22] += 2
    return images, truth


class OnDiscs(nn.Module):
    """Binary cross-entropy where the truth is known."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        known = target >= 0
        return nn.functional.binary_cross_entropy_with_logits(output[known], target[known])


def context_score(dilations: list[int], seed: int, rates: Sequence[float] = RATES) -> float:
    """AUC of whether a disc counts, over the pixels of unseen discs."""
    learnt, held_out, test = (context_scenes(count, 10 * seed + n) for n, count in enumerate((64, 32, 64)))

    def arm(rate: float) -> tuple[float, float]:
        torch.manual_seed(seed)
        network = DenseUNet(2, levels=2, block_layers=1, growth=6, dilations=dilations)
        train(network, OnDiscs(), learnt, STEPS, rate, seed)
        with torch.no_grad():
            found = [roc_auc_score(t[t >= 0], network(image)[t >= 0]) for image, t in (held_out, test)]
        return found[0], found[1]

    return best_of(arm, rates)


DILATED, PLAIN = [1, 2, 4, 8], [1, 1, 1, 1]


@pytest.mark.slow
def test_dilations_see_context_that_plain_convolutions_do_not() -> None:
    """The marker is nearer than the dilated network's reach (40 pixels) and beyond the plain one's (12)."""
    arms = [DenseUNet(2, levels=2, block_layers=1, growth=6, dilations=rates) for rates in (DILATED, PLAIN)]
    assert parameters(arms[0]) == parameters(arms[1])
    assert context_score(DILATED, 0, (0.01,)) > 0.95
    assert context_score(PLAIN, 0, (0.01,)) < 0.7


@pytest.mark.slow
def test_dilations_see_context_over_five_seeds() -> None:
    gains = [context_score(DILATED, seed) - context_score(PLAIN, seed) for seed in SEEDS]
    assert interval(gains)[0] > 0
