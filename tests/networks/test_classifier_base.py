"""Every classification network takes activation, normalisation, dropout and DropConnect by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.layers.activations import ADDED, SURVEY
from medresnet3d.networks.layers.batch_renorm import BatchRenorm2d
from medresnet3d.networks.layers.dropconnect import DropConnectHead
from medresnet3d.networks.layers.maxout import MaxPieces

FAMILIES = ("resnet10", "resnet50", "multi_branch_resnet18", "densenet121", "vgg16", "mobilenet_v1", "xception")
NORMS: tuple[Any, ...] = ("batch", ["group", {"num_groups": 1}], "batch_renorm", "")


def build(arch: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_classifier(arch, 2, 1, 3, width=0.0625, **options)


def count(network: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(module, kind) for module in network.modules())


def activations(network: nn.Module) -> int:
    """Places with an activation (all families have ReLU or ReLU6 by default)."""
    return count(network, nn.ReLU | nn.ReLU6)  # type: ignore[arg-type]


def backward(network: nn.Module) -> None:
    """One training step's gradients; every parameter must get a finite one."""
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(4, 1, 32, 32, generator=generator)
    output = network.train()(image)
    (output * torch.randn(output.shape, generator=generator)).sum().backward()
    assert output.shape == (4, 3)
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("act", [*SURVEY, "torch_rrelu", "maxout_relu"])
@pytest.mark.parametrize("arch", FAMILIES)
def test_every_family_takes_every_activation_everywhere(arch: str, act: str) -> None:
    network = build(arch, act=act)
    if act in ADDED:
        assert count(network, ADDED[act]) == activations(build(arch))
    if act not in ("relu", "maxout_relu"):
        assert activations(network) == 0
    backward(network)
    with torch.no_grad():
        assert torch.isfinite(network.eval()(torch.rand(2, 1, 32, 32))).all()


@pytest.mark.parametrize("arch", FAMILIES)
def test_prelu_has_a_slope_for_each_channel(arch: str) -> None:
    slopes = [module for module in build(arch, act="prelu").modules() if isinstance(module, nn.PReLU)]
    assert len(slopes) == activations(build(arch))
    assert all(slope.num_parameters > 1 for slope in slopes)


@pytest.mark.parametrize("norm", NORMS, ids=str)
@pytest.mark.parametrize("arch", FAMILIES)
def test_every_family_takes_every_normalisation_everywhere(arch: str, norm: Any) -> None:
    network = build(arch, norm=norm)
    if norm != "batch":
        assert count(network, nn.BatchNorm2d) == 0
    if norm == "batch_renorm":
        assert count(network, BatchRenorm2d) == count(build(arch, norm="batch"), nn.BatchNorm2d) > 0
    backward(network)


@pytest.mark.parametrize("act", ["relu", "prelu", "noisy_softplus", "rrelu", "maxout", "maxout_relu"])
def test_networks_with_the_activation_are_scripted(act: str) -> None:
    network = build("resnet10", act=act, norm="batch_renorm", dropout=0.2, dropconnect=0.5).eval()
    image = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image))
        exported = torch.export.export(network, (image,), strict=False).module()
        torch.testing.assert_close(exported(image), network(image))


@pytest.mark.parametrize("arch", FAMILIES)
def test_maxout_widens_the_convolutions_and_nothing_else(arch: str) -> None:
    """Shortcuts and the last layer stay linear; norms keep their channels; three pieces are a value."""
    plain, network = build(arch), build(arch, act=("maxout", {"pieces": 3}))
    shapes = {name: module.num_features for name, module in plain.named_modules() if hasattr(module, "num_features")}
    assert shapes == {
        n: module.num_features for n, module in network.named_modules() if hasattr(module, "num_features")
    }
    pieces = [name for name, module in network.named_modules() if isinstance(module, MaxPieces)]
    assert not [name for name in pieces if "downsample" in name or "skip" in name or "classifier" in name]
    wide = [network.get_submodule(name.removesuffix("1") + "0") for name in pieces]
    for name, layer in zip(pieces, wide, strict=True):
        single = plain.get_submodule(name.removesuffix(".1"))
        assert layer.weight.shape[0] == 3 * single.weight.shape[0]
    assert isinstance(network.classifier, nn.Linear)


def test_depthwise_convolutions_of_xception_have_no_activation_and_no_pieces() -> None:
    network = build("xception", act="maxout")
    assert isinstance(network.conv3.conv1, nn.Conv2d)
    assert isinstance(network.conv3.pointwise[1], MaxPieces)
    assert isinstance(network.conv1[1], MaxPieces)


def test_a_relu_follows_the_sum_of_a_residual_block_with_maxout_relu_and_nothing_with_maxout() -> None:
    for act, lowest in (("maxout", -1.0), ("maxout_relu", 0.0)):
        network = build("resnet10", act=act).eval()
        with torch.no_grad():
            smallest = float(network.feature_map(torch.randn(4, 1, 64, 64)).min())
        assert (smallest < 0) == (lowest < 0)


def test_dropout_acts_on_the_features_in_training_alone() -> None:
    network, image = build("resnet10", act="softplus", dropout=0.5), torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        kept = network.eval().forward_features(image)
        dropped = network.train().forward_features(image)
    assert (kept > 0).all()
    assert 0.3 < float((dropped == 0).float().mean()) < 0.7
    assert build("vgg16", dropout=0.0).hidden[2].p == 0.0
    assert build("vgg16").hidden[2].p == 0.5


def test_dropconnect_is_the_last_layer_and_still_a_linear_one() -> None:
    network, image = build("resnet10", dropconnect=0.5), torch.rand(2, 1, 32, 32)
    assert isinstance(network.classifier, DropConnectHead)
    assert isinstance(network.classifier, nn.Linear)
    assert set(network.state_dict()) == set(build("resnet10").state_dict())
    with torch.no_grad():
        assert torch.equal(network.eval()(image), network(image))
        network.train().classifier.eval()
        features = network.forward_features(image)
        network.classifier.train()
        assert not torch.equal(network.classifier(features), network.classifier(features))


@pytest.mark.parametrize("arch", FAMILIES)
def test_without_normalisation_no_activation_spoils_what_is_read_later(arch: str) -> None:
    """ReLU in place gives what ReLU gives that is not in place."""
    image = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        in_place = build(arch, norm="", act="relu").eval()(image)
        fresh = build(arch, norm="", act=("relu", {"inplace": False})).eval()(image)
    torch.testing.assert_close(in_place, fresh, rtol=0, atol=0)


def test_a_wrong_activation_or_option_is_refused() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'prelu'"):
        build("resnet10", act="prelus")
    with pytest.raises(TypeError, match="activation"):
        build_classifier("resnet10", activation="relu")
