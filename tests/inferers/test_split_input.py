from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from monai.networks.nets import UNet
from torch import nn

from medresnet3d.inferers.execution import prepare
from medresnet3d.inferers.folding import fold
from medresnet3d.inferers.split_input import first_convolutions, split, split_layers
from medresnet3d.inferers.tracing import trace
from medresnet3d.networks.voxresnet import VoxResNet

SHAPE = (1, 1, 16, 16, 16)


def names(network: nn.Module) -> list[str]:
    found = first_convolutions(network, trace(network, SHAPE))
    return [name for name, module in network.named_modules() if any(module is other for other in found)]


class Forked(nn.Module):
    def __init__(self, layer: nn.Module, skip: bool) -> None:
        super().__init__()
        self.layer, self.skip = layer, skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + x if self.skip else self.layer(x)


def test_the_convolutions_that_read_the_image_are_found() -> None:
    network = UNet(3, 1, 2, (4, 8), (2,), num_res_units=2, norm="batch").eval()
    assert names(network) == ["model.0.conv.unit0.conv", "model.0.residual"]


class Padded(nn.Module):
    def __init__(self, **how: Any) -> None:
        super().__init__()
        self.layer, self.how = nn.Conv3d(1, 1, 3), how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(F.pad(x, [0, 1] * 3, **self.how))


@pytest.mark.parametrize("how", [{}, {"value": 0.0}, {"mode": "constant"}])
def test_zeros_around_the_image_are_no_reader(how: dict[str, Any]) -> None:
    assert names(Padded(**how).eval()) == ["layer"]


def test_the_first_layer_of_voxresnet_is_found() -> None:
    assert names(VoxResNet(width=4).eval()) == ["stage1.0"]


@pytest.mark.parametrize(
    "network",
    [
        Padded(value=1.0),
        Padded(mode="replicate"),
        Forked(nn.Conv3d(1, 1, 3, padding=1), skip=True),
        Forked(nn.InstanceNorm3d(1), skip=False),
        Forked(nn.Conv3d(1, 1, 3, padding=1, padding_mode="reflect"), skip=False),
    ],
)
def test_nothing_is_found_where_something_else_reads_it(network: nn.Module) -> None:
    assert names(network.eval()) == []


def test_a_convolution_that_runs_twice_is_left_alone() -> None:
    layer = nn.Conv3d(1, 1, 3, padding=1)
    assert names(nn.Sequential(layer, layer).eval()) == []


def test_halves_add_up_to_the_image() -> None:
    image = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)) * 3
    halves = split(image, torch.bfloat16)
    assert halves.dtype == torch.bfloat16
    assert torch.equal(halves[:, 0], halves[:, 2])
    assert float((halves[:, :2].float().sum(1, keepdim=True) - image).abs().max()) < 1e-4
    assert float((image.bfloat16().float() - image).abs().max()) > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 2])
def test_split_network_answers_the_same(channels: int) -> None:
    torch.manual_seed(0)
    network = UNet(3, channels, 2, (4, 8), (2,), num_res_units=2, norm="batch").eval()
    image = torch.randn(1, channels, 16, 16, 16)
    expected = network(image)
    first = fold(network, tuple(image.shape)).first
    assert len(first) == 2
    split_layers(network, first, torch.bfloat16)
    assert torch.allclose(network(split(image, torch.bfloat16).float()), expected, atol=1e-3)
    for name in first:
        kernels = network.get_submodule(name).weight.chunk(3, dim=1)
        assert torch.equal(kernels[0], kernels[0].bfloat16().float())
        assert torch.equal(kernels[0], kernels[1])


@torch.no_grad()
def test_in_bf16_the_first_kernels_are_not_rounded() -> None:
    network = nn.Sequential(nn.Conv3d(1, 1, 1)).eval()
    network[0].weight.fill_(1.001)
    network[0].bias.fill_(-1)
    answer = prepare(network, device="cpu", precision="bf16")(torch.ones(SHAPE)).unique().item()
    assert answer == pytest.approx(0.001, rel=0.02)


@torch.no_grad()
def test_in_bf16_the_image_is_not_rounded() -> None:
    network = nn.Sequential(nn.Conv3d(1, 1, 1)).eval()
    network[0].weight.fill_(1)
    network[0].bias.fill_(-256)
    image = torch.full(SHAPE, 256.875)
    assert image.bfloat16().unique().item() == 256
    assert prepare(network, device="cpu", precision="bf16")(image).unique().item() == 0.875
