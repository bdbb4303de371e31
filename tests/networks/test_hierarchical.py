"""A classifier that decides on the group first; its classes add up to the groups."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.losses.hierarchical import HierarchicalLoss
from medresnet3d.networks.hierarchical import build_hierarchical_classifier
from tests.networks.base import NetworkSuite

GROUPS = [0, 0, 1, 1, 1]


class TestHierarchicalClassifier(NetworkSuite):
    def build(self, spatial_dims: int = 3, **options: object) -> nn.Module:
        return build_hierarchical_classifier(GROUPS, "resnet10", spatial_dims, 1, "slim")

    def output_shape(self, image: torch.Tensor) -> tuple[int, ...]:
        return (image.shape[0], len(GROUPS))


def test_the_answer_is_a_probability_and_the_loss_takes_it() -> None:
    torch.manual_seed(0)
    network = build_hierarchical_classifier(GROUPS, "resnet10", size="slim").eval()
    logs, target = network(torch.rand(3, 3, 32, 32)), torch.tensor([0, 2, 4])
    torch.testing.assert_close(logs.exp().sum(1), torch.ones(3))
    features = network.forward_features(torch.rand(3, 3, 32, 32))
    assert features.shape[1] == network.classifier.fine.in_features
    expected = F.nll_loss(logs, target) + F.nll_loss(
        torch.stack([logs[:, :2].logsumexp(1), logs[:, 2:].logsumexp(1)], 1), torch.tensor([0, 1, 1])
    )
    torch.testing.assert_close(HierarchicalLoss(GROUPS)(logs, target), expected)


def test_dropconnect_works_on_both_levels() -> None:
    network = build_hierarchical_classifier(GROUPS, "resnet10", size="slim", dropconnect=0.5).train()
    image = torch.rand(4, 3, 32, 32)
    features = network.forward_features(image)
    one, other = network.classifier(features), network.classifier(features)
    assert not torch.allclose(one, other)
    torch.testing.assert_close(one.exp().sum(1), torch.ones(4))


def test_groups_with_gaps_are_refused() -> None:
    with pytest.raises(ConfigError, match="groups is"):
        build_hierarchical_classifier([0, 2])
