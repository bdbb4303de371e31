from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.densenet import DenseNetClassifier
from medresnet3d.networks.inception_v4 import InceptionV4
from medresnet3d.networks.layers.se_attention import SEAttention, opened
from medresnet3d.networks.pretrained import load_pretrained, our_name
from medresnet3d.networks.se_attention import AttentionDenseNet, AttentionInceptionV4, build_attention_classifier
from medresnet3d.networks.transfer import freeze_depths
from tests.networks.base import ClassifierSuite

SMALL: dict[str, Any] = {"blocks": (2, 2, 2), "width": 0.125}


class TestAttentionDenseNet(ClassifierSuite):
    learning_rate = 1e-2
    counts = (({"spatial_dims": 2, "in_channels": 3, "num_classes": 4, "width": 1.0, "blocks": None}, 7_264_052),)

    def build(self, spatial_dims: int = 3, **options: Any) -> AttentionDenseNet:
        return AttentionDenseNet(spatial_dims, **{**SMALL, "auxiliary": False, **options})


class TestAttentionInceptionV4(ClassifierSuite):
    dims = (2,)  # in 3D it is costly; its gates are tested there below, and its base has a suite of its own
    size, odd_size = 40, (43, 41, 39)
    learning_rate = 1e-2
    counts = (({"spatial_dims": 2, "in_channels": 3, "num_classes": 4, "width": 1.0}, 43_467_780),)

    def build(self, spatial_dims: int = 3, width: float = 0.0625, **options: Any) -> AttentionInceptionV4:
        return AttentionInceptionV4(spatial_dims, width=width, stem_stride=1, **{"auxiliary": False, **options})


def pair(arch: str, spatial_dims: int, **options: Any) -> tuple[nn.Module, nn.Module]:
    """A network with attention and the network by that name."""
    torch.manual_seed(0)
    if arch == "densenet":
        return AttentionDenseNet(spatial_dims, **SMALL, **options), DenseNetClassifier(spatial_dims, **SMALL)
    shared: dict[str, Any] = {"width": 0.03125, "stem_stride": 1}
    return AttentionInceptionV4(spatial_dims, **shared, **options), InceptionV4(spatial_dims, **shared)


@pytest.mark.parametrize(
    ("arch", "spatial_dims"), [("densenet", 2), ("densenet", 3), ("inception", 2), ("inception", 3)]
)
def test_with_all_gates_at_1_it_is_the_network_without_attention_bit_by_bit(
    arch: str, spatial_dims: int, tmp_path: Path
) -> None:
    network, base = pair(arch, spatial_dims)
    torch.save(base.state_dict(), tmp_path / "base.pt")
    report = load_pretrained(network, tmp_path / "base.pt")
    assert report.missing == report.unexpected == []
    image = torch.rand(2, 1, *[40] * spatial_dims)
    with torch.no_grad(), opened(network):
        assert torch.equal(network.eval()(image), _with_its_head(base, network).eval()(image))
    with torch.no_grad():
        assert not torch.equal(network(image), base.eval()(image))
        for module in network.modules():
            if isinstance(module, SEAttention):
                gates = module.gates(torch.randn(2, module.squeeze.in_features, 3, 3))
                assert bool(((gates > 0) & (gates < 1)).all())


def _with_its_head(base: nn.Module, network: nn.Module) -> nn.Module:
    base.classifier = network.classifier
    return base


def test_attention_stands_behind_every_block() -> None:
    with torch.device("meta"):
        inception = AttentionInceptionV4(2)
        densenet = build_attention_classifier("densenet121", 2)
    channels = [(n, m.squeeze.in_features) for n, m in inception.named_modules() if isinstance(m, SEAttention)]
    assert [name for name, _ in channels] == [f"features.{index}.attention" for index in range(6, 22)]
    assert [number for _, number in channels] == [384] * 4 + [1024] * 8 + [1536] * 4
    channels = [(n, m.squeeze.in_features) for n, m in densenet.named_modules() if isinstance(m, SEAttention)]
    assert channels == [(f"features.attention{n}", c) for n, c in ((1, 256), (2, 512), (3, 1024), (4, 1024))]


@pytest.mark.parametrize("arch", ["densenet", "inception"])
def test_the_auxiliary_classifier_speaks_in_training_only_and_has_two_thirds_of_the_depth_before_it(arch: str) -> None:
    network, _ = pair(arch, 2)
    image = torch.rand(2, 1, 40, 40)
    outputs = network.train()(image)
    assert [tuple(each.shape) for each in outputs] == [(2, 2)] * 2
    outputs[1].sum().backward()
    stage = next(iter(network.taps))
    reached = [n for n, p in network.features.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert all(parameter.grad is None for parameter in network.classifier.parameters())
    assert reached[-1].startswith(f"{stage}.") and stage == {"densenet": "attention2", "inception": "16"}[arch]
    assert network.eval()(image).shape == (2, 2)


@pytest.mark.parametrize("arch", ["densenet", "inception"])
def test_without_attention_and_head_it_is_the_network_by_that_name(arch: str) -> None:
    network, base = pair(arch, 2, attention=False, auxiliary=False)
    assert list(network.state_dict()) == list(base.state_dict())
    network.load_state_dict(base.state_dict())
    image = torch.rand(1, 1, 40, 40)
    with torch.no_grad():
        assert torch.equal(network.eval()(image), base.eval()(image))


@pytest.mark.parametrize("arch", ["inception_v4", "densenet121"])
def test_published_weights_go_into_all_but_attention_and_heads(arch: str) -> None:
    """Names of timm and torchvision, by the way of the network by that name."""
    with torch.device("meta"):
        names = set(build_classifier(arch, 2, 3, 1000).state_dict())
        network = build_attention_classifier(arch, 2, 3)
    taken = {our_name(network, name) for name in names}
    own = set(network.state_dict())
    assert taken <= own
    assert all("attention" in name or name.startswith("auxiliary") for name in own - taken)
    assert [our_name(network, name) for name in network.state_dict()] == list(network.state_dict())


@pytest.mark.parametrize("arch", ["inception_v4", "densenet121"])
def test_every_parameter_belongs_to_one_stage(arch: str) -> None:
    with torch.device("meta"):
        network = build_attention_classifier(arch, 2, size="slim")
    depths = freeze_depths(network)
    network.freeze(depths["stage2"])
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    last = {
        "inception_v4": ("features.17.", "features.18."),
        "densenet121": ("features.attention2", "features.denseblock3"),
    }
    assert any(name.startswith(last[arch][0]) for name in frozen)
    assert not any(name.startswith(last[arch][1]) for name in frozen)
    network.freeze(depths[list(depths)[-2]])
    trained = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert trained == {"classifier", "auxiliary"}


def test_unknown_networks_are_named() -> None:
    with pytest.raises(ConfigError, match="inception_v4"):
        build_attention_classifier("resnet18")
