from __future__ import annotations

import pytest
import torch
from monai.networks.nets import UNet
from torch import nn

from medresnet3d.inferers.execution import prepare
from medresnet3d.inferers.folding import fold
from medresnet3d.inferers.split_input import double_input, first_convolutions, split
from medresnet3d.inferers.tracing import trace

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


@pytest.mark.parametrize(
    "network",
    [
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
    assert float((halves.float().sum(1, keepdim=True) - image).abs().max()) < 1e-4
    assert float((image.bfloat16().float() - image).abs().max()) > 1e-3


@torch.no_grad()
def test_doubled_network_answers_the_same() -> None:
    torch.manual_seed(0)
    network = UNet(3, 1, 2, (4, 8), (2,), num_res_units=2, norm="batch").eval()
    image = torch.randn(SHAPE)
    expected = network(image)
    first = fold(network, SHAPE).first
    assert len(first) == 2
    double_input(network, first)
    assert torch.allclose(network(torch.cat([image - 1, torch.ones_like(image)], dim=1)), expected, atol=1e-4)


@torch.no_grad()
def test_in_bf16_the_image_is_not_rounded() -> None:
    network = nn.Sequential(nn.Conv3d(1, 1, 1)).eval()
    network[0].weight.fill_(1)
    network[0].bias.fill_(-256)
    image = torch.full(SHAPE, 256.875)
    assert image.bfloat16().unique().item() == 256
    assert prepare(network, device="cpu", precision="bf16")(image).unique().item() == 0.875
