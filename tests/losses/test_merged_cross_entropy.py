from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from medresnet3d.errors import ConfigError
from medresnet3d.losses import build_loss
from medresnet3d.losses.merged_cross_entropy import MergedCrossEntropyLoss
from medresnet3d.metrics.paired import mean_interval
from tests.losses.base import DenseLossSuite


class TestMergedCrossEntropyLoss(DenseLossSuite):
    def build(self, **options: object) -> nn.Module:
        return MergedCrossEntropyLoss(**options)  # type: ignore[arg-type]


class TestMergedCrossEntropyLossOfTheHighestGrade(DenseLossSuite):
    def build(self, **options: object) -> nn.Module:
        return MergedCrossEntropyLoss(from_grade=2, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("grade", [1, 2, 3, 4])
def test_it_is_binary_cross_entropy_of_the_summed_probability(grade: int) -> None:
    logits = torch.randn(9, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.arange(9) % 5
    score = logits.softmax(1)[:, grade:].sum(1)
    expected = nn.functional.binary_cross_entropy(score, (labels >= grade).double())
    torch.testing.assert_close(MergedCrossEntropyLoss(grade)(logits, labels), expected)


def test_with_two_classes_it_is_cross_entropy() -> None:
    logits, labels = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 2
    torch.testing.assert_close(MergedCrossEntropyLoss()(logits, labels), nn.CrossEntropyLoss()(logits, labels))


def test_it_does_not_tell_grades_of_one_side_apart() -> None:
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    loss = MergedCrossEntropyLoss(2)
    low, other = torch.tensor([0, 1, 2, 4]), torch.tensor([1, 0, 4, 3])
    torch.testing.assert_close(loss(logits, low), loss(logits, other))


def test_impossible_grades_are_named() -> None:
    with pytest.raises(ConfigError, match="from_grade is 0"):
        MergedCrossEntropyLoss(0)
    with pytest.raises(ConfigError, match="from_grade is 5, but there are 5 grades; use 1 to 4"):
        MergedCrossEntropyLoss(5)(torch.zeros(2, 5), torch.zeros(2))


BOUNDARY_NOISE = 1.5
"""Deviation of the grade that a reader gives from the true severity, in grades: boundaries are where readers differ."""


def graded(count: int, seed: int, noise: float) -> tuple[Tensor, Tensor, Tensor]:
    """Images (N, 144) with a faint sign of the severity in eight places, the grades that are given, the severity."""
    generator = torch.Generator().manual_seed(seed)
    severity = 5 * torch.rand(count, generator=generator)
    images = torch.randn(count, 144, generator=generator)
    images[:, :8] += 0.3 * (severity[:, None] - 2.5)
    given = severity + noise * torch.randn(count, generator=generator)
    return images, given.clamp(0, 4.999).long(), severity


def screening_auc(loss: nn.Module, rate: float, seed: int, images: int) -> float:
    """Train a small network on noisy grades, and measure how well its score tells severity of 1 or more."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(144, 16), nn.ReLU(), nn.Linear(16, 5))
    known, labels, _ = graded(150, 100 + seed, BOUNDARY_NOISE)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        loss(network(known), labels).backward()
        optimizer.step()
    unseen, _, severity = graded(2000, images + seed, 0.0)
    with torch.no_grad():
        score = network(unseen).softmax(1)[:, 1:].sum(1)
    return float(roc_auc_score(severity >= 1, score))


def test_with_noisy_boundaries_training_on_all_grades_screens_better_than_training_on_yes_or_no() -> None:
    """Same network, steps and data; each chooses its learning rate on images of its own; five seeds."""
    arms = {"grades": build_loss("cross_entropy"), "binary": build_loss("merged_cross_entropy", from_grade=1)}
    found = {}
    for name, loss in arms.items():
        rates = (0.003, 0.01, 0.03)
        best = max(rates, key=lambda rate: sum(screening_auc(loss, rate, seed, 5000) for seed in range(5)))
        found[name] = np.array([screening_auc(loss, best, seed, 9000) for seed in range(5)])
    difference = mean_interval(found["grades"] - found["binary"])
    print(f"grades {found['grades'].mean():.3f}, binary {found['binary'].mean():.3f}, difference {difference}")
    assert difference.low is not None and difference.low > 0
