"""The survey's nine activations by name, in MONAI's factory and in MONAI's own networks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from monai.networks.blocks import ADN
from monai.networks.layers.factories import Act
from monai.networks.nets import UNet
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks.layers.activations import (
    ADDED,
    SURVEY,
    activation,
    maxout_pieces,
    register_activations,
    resolve_activation,
)

POINTWISE = tuple(name for name in SURVEY if name != "maxout")


@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("sigmoid", 0.0, 0.5),
        ("tanh", 0.7, 2 / (1 + math.exp(-1.4)) - 1),  # 2 sigmoid(2x) - 1
        ("relu", -2.0, 0.0),
        ("relu", 3.0, 3.0),
        ("prelu", -2.0, -0.5),
        ("rrelu", -2.0, -0.363636),
        ("torch_rrelu", -2.0, -0.458333),
        ("elu", -1.0, -0.632121),
        ("elu", -2.0, -0.864665),
        ("softplus", 0.0, 0.693147),
    ],
)
def test_values_of_the_specification_in_evaluation(name: str, x: float, expected: float) -> None:
    assert float(activation(name).eval()(torch.tensor([[x]])).detach()) == pytest.approx(expected, abs=1e-6)


def test_the_steepest_slope_of_the_sigmoid_is_a_quarter() -> None:
    x = torch.linspace(-5, 5, 1001, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(activation("sigmoid")(x).sum(), x)
    assert float(slope.max()) == pytest.approx(0.25)


def test_no_name_of_monai_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """What MONAI alone has under a name stays; only a name that it lacks is added."""
    own = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU, "prelu": nn.PReLU, "elu": nn.ELU}
    assert all(Act[name] is layer for name, layer in own.items())
    assert all(Act[name] is layer for name, layer in ADDED.items())
    later = Act.components.copy()
    later["RRELU"] = Act._Component("as a later MONAI may have it", lambda: nn.RReLU)
    monkeypatch.setattr(Act, "components", later)
    register_activations()
    assert Act["rrelu"] is nn.RReLU
    assert type(activation("rrelu")) is ADDED["rrelu"]


@pytest.mark.parametrize("name", POINTWISE)
def test_monais_own_networks_take_the_name(name: str) -> None:
    network = UNet(2, 1, 2, channels=(4, 8), strides=(2,), act=name, norm="batch")
    output = network(torch.randn(2, 1, 16, 16))
    output.sum().backward()
    kind = ADDED.get(name) or Act[name]
    assert sum(type(layer) is kind for layer in network.modules()) > 0
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert isinstance(ADN("A", act=name)[0], kind)


@pytest.mark.parametrize("name", POINTWISE)
def test_scripted_and_exported_layers_give_the_same(name: str) -> None:
    layer, x = activation(name, channels=3).eval(), torch.randn(2, 3, 5)
    expected = layer(x)
    torch.testing.assert_close(torch.jit.script(layer)(x), expected)
    torch.testing.assert_close(torch.export.export(layer, (x,)).module()(x), expected)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", POINTWISE)
def test_dtype_and_memory_format_are_kept(name: str, training: bool) -> None:
    layer = activation(name, channels=4).train(training)
    image = torch.randn(2, 4, 6, 6).to(memory_format=torch.channels_last)
    assert layer(image.clone()).is_contiguous(memory_format=torch.channels_last)
    half = layer.to(torch.bfloat16)(image.to(torch.bfloat16))
    assert half.dtype == torch.bfloat16
    assert torch.isfinite(half).all()


def test_prelu_has_a_slope_for_each_channel_where_their_number_is_known() -> None:
    assert activation("prelu", channels=6).weight.shape == (6,)
    assert activation("prelu").weight.shape == (1,)
    assert activation(("prelu", {"num_parameters": 1, "init": 0.1}), channels=6).weight.tolist() == pytest.approx([0.1])


def test_only_relu_overwrites_its_input_and_only_where_it_may() -> None:
    assert activation("relu", in_place=True).inplace
    assert not activation("relu").inplace
    assert not activation(("relu", {"inplace": False}), in_place=True).inplace
    assert not activation("elu", in_place=True).inplace
    assert not activation("maxout_relu", in_place=True).inplace  # the gradient of the maximum needs its output


def test_a_json_list_a_class_and_upper_case_are_taken() -> None:
    assert resolve_activation(["ELU", {"alpha": 0.5}]) == ("elu", {"alpha": 0.5})
    assert resolve_activation((nn.ReLU, {})) == (nn.ReLU, {})
    assert activation(["elu", {"alpha": 0.5}]).alpha == 0.5


def test_maxout_leaves_nothing_or_a_relu_where_the_activation_stood() -> None:
    assert isinstance(activation("maxout"), nn.Identity)
    assert isinstance(activation("maxout_relu"), nn.ReLU)
    assert maxout_pieces("maxout_relu") == 2
    assert maxout_pieces(("maxout", {"pieces": 3})) == 3
    assert maxout_pieces("relu") == 0


@pytest.mark.parametrize(
    ("act", "message"),
    [("preluu", "Did you mean 'prelu'"), (("maxout", {"piece": 3}), "'pieces' and no other")],
)
def test_a_wrong_name_or_option_is_refused(act: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_activation(act)
