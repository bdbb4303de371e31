"""Two heads, each with its own picture in training and the same one in eval mode."""

from __future__ import annotations

import torch
from torch import nn

from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.masked_ensemble import PooledHiddenClassifier, build_masked_ensemble
from tests.networks.base import ClassifierSuite, NetworkSuite


class TestMaskedEnsemble(NetworkSuite):
    def build(self, spatial_dims: int = 3, **options: object) -> nn.Module:
        return build_masked_ensemble("resnet10", spatial_dims, 1, 2, "slim", hidden=8, **options)


class TestPooledHiddenClassifier(ClassifierSuite):
    steps = 20

    def build(self, spatial_dims: int = 3, **options: object) -> nn.Module:
        return PooledHiddenClassifier(build_classifier("resnet10", spatial_dims, 1, 2, "slim"), 16, 2, dropout=0.0)


def test_each_member_learns_from_its_own_picture_alone() -> None:
    torch.manual_seed(0)
    network = build_masked_ensemble("resnet10", size="slim", hidden=8, head_dropout=0.0).train()
    pictures = torch.rand(4, 6, 32, 32, requires_grad=True)
    fused, first, second = network(pictures)
    assert [tuple(each.shape) for each in (fused, first, second)] == [(4, 2)] * 3
    for logits, own, other in ((first, slice(0, 3), slice(3, 6)), (second, slice(3, 6), slice(0, 3))):
        (gradient,) = torch.autograd.grad(logits.square().sum(), pictures, retain_graph=True)
        assert gradient[:, own].abs().sum() > 0 and gradient[:, other].abs().sum() == 0
    assert not fused.requires_grad, "what is fused teaches nobody"


def test_one_picture_is_for_both_members_and_the_mean_of_probabilities_is_the_answer() -> None:
    torch.manual_seed(0)
    network = build_masked_ensemble("resnet10", size="slim", hidden=8).train()
    picture = torch.rand(4, 3, 32, 32)
    assert len(network(picture)) == 3
    network.eval()
    with torch.no_grad():
        mean = torch.stack([member(picture).softmax(1) for member in network.members]).mean(0)
        torch.testing.assert_close(network(picture).exp(), mean)


def test_the_head_pools_by_mean_and_maximum() -> None:
    trunk = build_classifier("resnet10", 2, 3, 2, "slim")
    width = trunk.classifier.in_features
    network = PooledHiddenClassifier(trunk, 8).eval()
    assert network.hidden[0].in_features == 2 * width
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        maps = trunk.feature_map(image)
        pooled = torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)
        torch.testing.assert_close(network.forward_features(image), network.hidden(pooled))
