from __future__ import annotations

from typing import Any

import torch
from monai.networks.nets import resnet18, resnet50

from medresnet3d.networks.resnet import ResNetClassifier
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
