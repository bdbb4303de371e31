"""Several inputs as channels: each trunk sees its own, and cues of different inputs add up."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks.multi_input import MultiInputClassifier, TrunkClassifiers, build_multi_input
from tests.networks.base import ClassifierSuite


class TestMultiInput(ClassifierSuite):
    in_channels = 2
    steps = 20

    def build(self, spatial_dims: int = 3, **options: object) -> nn.Module:
        return build_multi_input("resnet10", 2, spatial_dims, 1, 2, "slim", dropout=0.0)


def test_features_are_joined_and_weights_shared_on_demand() -> None:
    apart = build_multi_input("resnet50", 3, size="slim")
    shared = build_multi_input("resnet50", 3, size="slim", share_weights=True)
    assert apart.classifier.in_features == shared.classifier.in_features == 3 * 512
    views = torch.rand(2, 9, 32, 32)
    swapped = torch.cat([views[:, 3:6], views[:, :3], views[:, 6:]], 1)
    with torch.no_grad():
        for net, same in ((apart, False), (shared, True)):
            before, after = (net.eval().forward_features(each).view(2, 3, -1) for each in (views, swapped))
            assert torch.allclose(before, after[:, [1, 0, 2]], atol=1e-5) == same


def test_each_trunk_sees_its_own_channels() -> None:
    net = build_multi_input("resnet10", 2, in_channels=1, size="slim").eval()
    with torch.no_grad():
        one, other = net.forward_features(torch.rand(1, 1, 32, 32).repeat(1, 2, 1, 1)).chunk(2, 1)
        assert not torch.allclose(one, other)
        image = torch.rand(1, 2, 32, 32)
        changed = image.clone()
        changed[:, 1] = 0
        assert torch.equal(net.forward_features(image)[:, :128], net.forward_features(changed)[:, :128])


@pytest.mark.parametrize("share", [False, True])
def test_trunks_learn_apart_and_the_network_knows_it(share: bool) -> None:
    torch.manual_seed(0)
    network = build_multi_input("resnet10", 2, in_channels=1, size="slim", share_weights=share)
    apart = TrunkClassifiers(network, 3).train()
    image = torch.rand(4, 2, 32, 32, requires_grad=True)
    outputs = apart(image)
    assert [tuple(each.shape) for each in outputs] == [(4, 3)] * 2
    for number, logits in enumerate(outputs):
        (gradient,) = torch.autograd.grad(logits.square().sum(), image, retain_graph=True)
        assert gradient[:, number].abs().sum() > 0 and gradient[:, 1 - number].abs().sum() == 0
    sum(each.square().sum() for each in outputs).backward()
    assert all(parameter.grad is not None for parameter in network.trunks.parameters())
    assert all(parameter.grad is None for parameter in network.classifier.parameters())


def test_neither_one_trunk_nor_one_each_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 trunks for 2 inputs"):
        MultiInputClassifier([], [1, 1])
