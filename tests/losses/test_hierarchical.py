"""The loss on two levels of classes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from medresnet3d.errors import ConfigError
from medresnet3d.losses.factory import build_loss
from medresnet3d.losses.hierarchical import HierarchicalLoss

GROUPS = [0, 0, 1]


def test_by_hand() -> None:
    logits = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]]).log()
    expected = -(torch.tensor([0.2, 0.8]).log().mean() + 0.5 * torch.tensor([0.7, 0.8]).log().mean())
    loss = HierarchicalLoss(GROUPS, weight=0.5)(logits, torch.tensor([[0], [2]]))
    torch.testing.assert_close(loss, expected)


def test_without_weight_it_is_cross_entropy() -> None:
    logits, target = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    torch.testing.assert_close(HierarchicalLoss(GROUPS, 0.0)(logits, target), F.cross_entropy(logits, target))


def test_a_mistake_within_the_group_is_the_smaller_one() -> None:
    loss, target = HierarchicalLoss(GROUPS), torch.tensor([0])
    within, across = torch.tensor([[0.0, 4.0, 0.0]]), torch.tensor([[0.0, 0.0, 4.0]])
    assert F.cross_entropy(within, target) == F.cross_entropy(across, target)
    assert loss(within, target) < loss(across, target) - 1


def test_another_loss_of_the_class_by_name() -> None:
    logits, target = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    loss = build_loss("focal", gamma=2.0, groups=GROUPS, group_weight=0.5)
    group = torch.stack([logits[:, :2].logsumexp(1), logits[:, 2]], 1)
    expected = build_loss("focal", gamma=2.0)(logits, target) + 0.5 * F.cross_entropy(group, target // 2)
    torch.testing.assert_close(loss(logits, target), expected)
    with pytest.raises(ConfigError, match="CosFaceLoss works on the features"):
        build_loss("cosface", groups=GROUPS)


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ConfigError, match="must not be negative"):
        HierarchicalLoss(GROUPS, -1.0)
