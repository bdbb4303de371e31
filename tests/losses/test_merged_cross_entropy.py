from __future__ import annotations

import pytest
import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.losses.merged_cross_entropy import MergedCrossEntropyLoss
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
