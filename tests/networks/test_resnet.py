from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.networks.nets import ResNet, resnet18, resnet50

from medresnet3d.errors import ConfigError
from medresnet3d.networks.layers.choice import LayerChoice
from medresnet3d.networks.resnet import BasicBlock, MultiBranchBlock, ResNetClassifier
from tests.networks.base import ClassifierSuite

IMAGENET = {"spatial_dims": 2, "in_channels": 3, "num_classes": 1000, "width": 1.0}


class TestResNetClassifier(ClassifierSuite):
    counts = (
        ({**IMAGENET, "depth": 18}, 11_689_512),  # torchvision's
        ({**IMAGENET, "depth": 34}, 21_797_672),
        ({**IMAGENET, "depth": 50}, 25_557_032),
        ({**IMAGENET, "depth": 152}, 60_192_808),
        ({"depth": 10, "width": 1.0}, 14_356_546),
        ({"depth": 18, "width": 1.0}, 33_161_026),
        ({"depth": 34, "width": 1.0}, 63_470_658),
        ({"depth": 50, "width": 1.0}, 46_159_170),
    )

    def build(self, spatial_dims: int = 3, depth: int = 10, width: float = 0.03125, **options: Any) -> ResNetClassifier:
        return ResNetClassifier(depth, spatial_dims, width=width, **options)


class TestResNetClassifierBottleneck(ClassifierSuite):
    counts = (({"in_channels": 4, "num_classes": 3}, 49_599),)

    def build(self, spatial_dims: int = 3, **options: Any) -> ResNetClassifier:
        return ResNetClassifier(50, spatial_dims, width=0.03125, **options)


class TestResNetWithShortcutsWithoutParameters(ClassifierSuite):
    counts = (({"width": 1.0}, 32_987_202),)

    def build(self, spatial_dims: int = 3, width: float = 0.03125, **options: Any) -> ResNetClassifier:
        return ResNetClassifier(18, spatial_dims, width=width, shortcut_type="A", **options)


class TestMultiBranchResNet(ClassifierSuite):
    steps = 80  # the random multipliers make the loss noisy

    def build(self, spatial_dims: int = 3, **options: Any) -> ResNetClassifier:
        return ResNetClassifier(10, spatial_dims, width=0.03125, branches=2, **options)


def test_monai_defaults_differ_by_the_shortcut_bias_alone() -> None:
    """MONAI's own counts, 33,161,922 and 46,163,010, are ours plus one bias for each output channel of a shortcut."""
    with torch.device("meta"):
        for monai_net, depth, shortcut_channels, count in (
            (resnet18, 18, 128 + 256 + 512, 33_161_922),
            (resnet50, 50, 256 + 512 + 1024 + 2048, 46_163_010),
        ):
            theirs = monai_net(
                spatial_dims=3, n_input_channels=1, num_classes=2, shortcut_type="B", bias_downsample=True
            )
            ours = ResNetClassifier(depth)
            assert sum(p.numel() for p in theirs.parameters()) == count
            assert sum(p.numel() for p in ours.parameters()) == count - shortcut_channels


def test_stem_stride_is_two_as_published_and_one_on_request() -> None:
    image = torch.zeros(1, 1, 64, 64)
    for stride, edge in ((2, 2), (1, 4)):
        network = ResNetClassifier(10, 2, width=0.03125, stem_stride=stride).eval()
        stages = torch.nn.Sequential(
            network.conv1, network.maxpool, network.layer1, network.layer2, network.layer3, network.layer4
        )
        assert stages(image).shape[-2:] == (edge, edge)


@pytest.mark.parametrize(("depth", "shortcut"), [(18, "B"), (50, "B"), (18, "A"), (50, "A")])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_answer_is_that_of_monais_resnet_with_the_same_weights(
    depth: int, shortcut: str, spatial_dims: int
) -> None:
    torch.manual_seed(0)
    block, layers = ("basic", [2, 2, 2, 2]) if depth == 18 else ("bottleneck", [3, 4, 6, 3])
    theirs = ResNet(
        block,
        layers,
        [2, 4, 8, 16],
        spatial_dims,
        1,
        conv1_t_stride=2,
        shortcut_type=shortcut,
        num_classes=2,
        bias_downsample=False,
    )
    ours = ResNetClassifier(depth, spatial_dims, width=0.03125, shortcut_type=shortcut)
    ours.load_state_dict({name.replace("fc.", "classifier."): value for name, value in theirs.state_dict().items()})
    image = torch.rand(3, 1, *[33] * spatial_dims)
    for training in (True, False):
        torch.testing.assert_close(ours.train(training)(image), theirs.train(training)(image))


def test_several_branches_have_their_own_functions_and_one_shortcut() -> None:
    one, three = ResNetClassifier(18, 2, width=0.0625), ResNetClassifier(18, 2, width=0.0625, branches=3)
    block = three.layer2[0]
    assert isinstance(block, MultiBranchBlock)
    assert len(block.residual.branches) == 3
    functions = sum(
        p.numel()
        for stage in (one.layer1, one.layer2, one.layer3, one.layer4)
        for b in stage
        for name, p in b.named_parameters()
        if "downsample" not in name
    )
    assert sum(p.numel() for p in three.parameters()) == sum(p.numel() for p in one.parameters()) + 2 * functions


def test_one_branch_with_its_multiplier_is_the_ordinary_block() -> None:
    torch.manual_seed(0)
    layers, image = LayerChoice(2), torch.randn(3, 4, 8, 8)
    plain, branched = BasicBlock(layers, 4, 6, 2), MultiBranchBlock(BasicBlock, layers, 4, 6, 2, branches=1)
    branched.load_state_dict(
        {
            name if name.startswith("downsample") else f"residual.branches.0.{name}": value
            for name, value in plain.state_dict().items()
        }
    )
    for training in (True, False):
        torch.testing.assert_close(branched.train(training)(image), plain.train(training)(image))


@pytest.mark.parametrize("options", [{"depth": 20}, {"branches": 0}])
def test_a_depth_that_is_not_published_or_no_branch_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="give one of 10, 18, 34, 50, 101, 152, 200"):
        ResNetClassifier(**options)


def test_without_the_pool_every_stage_sees_twice_as_many_places() -> None:
    image = torch.zeros(1, 1, 28, 28, 28)
    pooled, unpooled = (ResNetClassifier(10, width=0.03125, stem_pool=pool).eval() for pool in (True, False))
    assert pooled.feature_map(image).shape[-3:] == (1, 1, 1)
    assert unpooled.feature_map(image).shape[-3:] == (2, 2, 2)
    assert {name: value.shape for name, value in pooled.state_dict().items()} == {
        name: value.shape for name, value in unpooled.state_dict().items()
    }
