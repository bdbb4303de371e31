"""Cross connections: without them a ResNet exactly, with them the same parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks.cross_residual import CROSS, CrossResNet
from medresnet3d.networks.resnet import ResNetClassifier
from tests.networks.base import ClassifierSuite


class TestCrossResNet(ClassifierSuite):
    scriptable = False

    def build(self, spatial_dims: int = 3, **options: object) -> nn.Module:
        return CrossResNet((2, 2), spatial_dims, 1, 2, "both", width=0.25)


def pair(cross: str) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    plain = ResNetClassifier(18, 2, 1, 3, width=0.125).eval()
    crossed = CrossResNet((2, 2, 2, 2), 2, 1, 3, cross, width=0.125).eval()
    crossed.load_state_dict(plain.state_dict())
    return plain, crossed


@pytest.mark.parametrize("cross", CROSS)
def test_the_parameters_are_those_of_resnet_and_without_cross_the_outputs_too(cross: str) -> None:
    plain, crossed = pair(cross)
    image = torch.rand(2, 1, 48, 48)
    with torch.no_grad():
        same = torch.equal(plain(image), crossed(image))
    assert same == (cross == "none")


def test_each_kind_by_hand() -> None:
    outputs = {}
    image = torch.rand(1, 1, 48, 48)
    for cross in CROSS:
        _, net = pair(cross)
        stage = net.layer1
        x = net.maxpool(net.act(net.bn1(net.conv1(image))))
        expected, before = x, torch.zeros(())
        for block in stage:
            inner = block.act1(block.bn1(block.conv1(expected)))
            own = inner if cross in ("intra", "both") else 0
            other = before if cross in ("inter", "both") else 0
            expected = torch.relu(block.bn2(block.conv2(inner)) + expected + own + other)
            before = inner
        torch.testing.assert_close(stage(x), expected)
        outputs[cross] = expected
    assert len({round(float(each.sum()), 3) for each in outputs.values()}) == 4


def test_a_cross_connection_shortens_the_way_of_the_gradient() -> None:
    """With the second convolution of every block shut, the first still learns through the cross connection alone."""
    for cross, reached in (("none", False), ("intra", True), ("inter", True)):
        _, net = pair(cross)
        for block in net.layer1:
            nn.init.zeros_(block.bn2.weight)
        net(torch.rand(1, 1, 48, 48)).sum().backward()
        assert (net.layer1[0].conv1.weight.grad.abs().sum() > 0) == reached


def test_what_is_unknown_is_refused() -> None:
    with pytest.raises(ConfigError, match="choose one of none, intra, inter, both"):
        CrossResNet(cross="outer")
    with pytest.raises(ConfigError, match="one or more blocks"):
        CrossResNet(repeats=(2, 0))


@pytest.mark.parametrize(
    ("cross", "paths"), [("none", [2, 4, 8]), ("intra", [3, 9, 27]), ("inter", [2, 5, 12]), ("both", [3, 10, 33])]
)
def test_number_of_ways_that_a_gradient_has(cross: str, paths: list[int]) -> None:
    """With every layer an identity, the derivative of a stage counts the ways through it."""
    for number, expected in enumerate(paths, 1):
        stage = CrossResNet((number,), 2, 1, 2, cross, width=0.0625).layer1
        for block in stage:
            for name in ("conv1", "bn1", "act1", "conv2", "bn2", "downsample", "act"):
                setattr(block, name, nn.Identity())
        x = torch.ones((), requires_grad=True)
        stage(x).backward()
        assert x.grad == expected
