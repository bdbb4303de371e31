"""Every published tensor has its place in the network, and the network has no other."""

from __future__ import annotations

import hashlib

import pytest
import torch

from medresnet3d.networks.classifier import ARCHITECTURES, build_classifier
from medresnet3d.networks.pretrained import our_name
from tests.networks.published import AUXILIARY, PUBLISHED, WRITTEN, published, published_shapes


@pytest.mark.parametrize("arch", PUBLISHED)
def test_published_names_and_shapes(arch: str) -> None:
    with torch.device("meta"):
        names = published(arch, build_classifier(arch, 2, 3, 1000))
    text = "\n".join(f"{name} {tuple(tensor.shape)}" for name, tensor in sorted(names.items()))
    assert len(names) == PUBLISHED[arch][1]
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == PUBLISHED[arch][2]


@pytest.mark.parametrize("arch", WRITTEN)
def test_every_published_name_and_shape_has_its_place(arch: str) -> None:
    """Both ways: each published tensor fits one of the network's, and none of the network's is left over."""
    auxiliary = {"auxiliary": True} if arch in AUXILIARY else {}
    with torch.device("meta"):
        maker = ARCHITECTURES[arch]
        network = maker(spatial_dims=2, in_channels=3, num_classes=1000, **auxiliary)
    theirs = {our_name(network, name): shape for name, shape in published_shapes(arch).items()}
    ours = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert len(theirs) == len(published_shapes(arch))
    assert theirs == ours


@pytest.mark.parametrize(
    ("arch", "count"),
    {
        "alexnet": 61_100_840,
        "vgg11": 132_863_336,
        "vgg13": 133_047_848,
        "vgg16": 138_357_544,
        "vgg19": 143_667_240,
        "vgg11_bn": 132_868_840,
        "vgg13_bn": 133_053_736,
        "vgg16_bn": 138_365_992,
        "vgg19_bn": 143_678_248,
        "googlenet": 6_624_904,
        "inception_v3": 23_834_568,
        "inception_v4": 42_679_816,
        "xception": 22_855_952,
        "mobilenet_v1": 4_231_976,
        "resnet18": 11_689_512,
        "resnet34": 21_797_672,
        "resnet50": 25_557_032,
        "resnet101": 44_549_160,
        "resnet152": 60_192_808,
        "densenet121": 7_978_856,
        "densenet169": 14_149_480,
        "densenet201": 20_013_928,
    }.items(),
)
def test_the_2d_network_has_as_many_parameters_as_the_published_one(arch: str, count: int) -> None:
    with torch.device("meta"):
        network = build_classifier(arch, 2, 3, 1000)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


@pytest.mark.parametrize("arch", [arch for arch in ARCHITECTURES if not arch.startswith("multi")])
def test_a_network_keeps_its_own_names(arch: str) -> None:
    with torch.device("meta"):
        network = build_classifier(arch, 2, 3, 7, width=0.0625)
    assert [our_name(network, name) for name in network.state_dict()] == list(network.state_dict())
