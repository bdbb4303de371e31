from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks.dense_unet import DenseBlock, DenseUNet, ParallelDilations, build_dense_unet
from medresnet3d.networks.layers.activations import SURVEY
from medresnet3d.networks.layers.choice import LayerChoice
from tests.networks.base import NetworkSuite


def small(spatial_dims: int, **options: Any) -> DenseUNet:
    return DenseUNet(spatial_dims, **{"levels": 3, "block_layers": 2, "growth": 4, **options})


class TestDenseUNet(NetworkSuite):
    odd_size = (37, 35, 33)
    counts: ClassVar[Any] = (
        ({"spatial_dims": 2, "levels": 4}, 651_803),
        ({"spatial_dims": 3, "levels": 4}, 1_741_467),
        ({"spatial_dims": 3, "width": 0.5}, 436_350),
    )

    def build(self, spatial_dims: int = 3, **options: Any) -> nn.Module:
        return DenseUNet(spatial_dims, **options) if options else small(spatial_dims)

    def output_shape(self, image: torch.Tensor) -> tuple[int, ...]:
        return (image.shape[0], 1, *image.shape[2:])


@pytest.mark.parametrize(("channels", "count", "growth"), [(32, 4, 16), (5, 1, 3), (8, 6, 2)])
def test_a_dense_block_grows_by_its_layers(channels: int, count: int, growth: int) -> None:
    block = DenseBlock(LayerChoice(2), channels, count, growth).eval()
    x = torch.rand(1, channels, 6, 6)
    seen = [layer[2].in_channels for layer in block.layers]  # type: ignore[index]
    assert seen == [channels + number * growth for number in range(count)]
    with torch.no_grad():
        y = block(x)
    assert y.shape[1] == block.out_channels == channels + growth * count
    assert torch.equal(y[:, :channels], x), "what came in is handed on as it was"


def support(network: nn.Module, size: int = 129) -> int:
    """How far from the middle its answer depends on the image, by the gradient."""
    torch.manual_seed(0)
    network.eval()
    for parameter in network.parameters():
        nn.init.uniform_(parameter, 0.01, 0.02)  # positive: no path cancels another or dies in a ReLU
    image = torch.ones(1, 1, size, size, requires_grad=True)
    middle = size // 2
    network(image)[0, 0, middle, middle].backward()
    assert image.grad is not None
    reached = image.grad[0, 0, middle].nonzero().flatten()
    return int((reached - middle).abs().max())


def test_dilations_widen_the_receptive_field() -> None:
    """By as much as the largest of them says, on the grid of the bottom."""
    options: dict[str, Any] = {"levels": 2, "block_layers": 1, "growth": 4}
    reach = {d: support(DenseUNet(2, dilations=[1, 1, 1, d], **options)) for d in (1, 2, 4, 8)}
    assert [reach[d] - reach[1] for d in (2, 4, 8)] == [4, 12, 28]


def test_parallel_dilations_keep_size_and_parameters() -> None:
    dilated, plain = (ParallelDilations(LayerChoice(2), 16, rates) for rates in ((1, 2, 4, 8), (1, 1, 1, 1)))
    assert dilated(torch.rand(2, 16, 9, 11)).shape == (2, 16, 9, 11)
    assert [p.shape for p in dilated.parameters()] == [p.shape for p in plain.parameters()]
    assert [branch[2].dilation for branch in dilated.branches] == [(d, d) for d in (1, 2, 4, 8)]  # type: ignore[index]


@pytest.mark.parametrize(("mode", "channels"), [("2d", 1), ("2.5d", 3), ("3d", None)])
def test_every_mode_maps_a_volume_to_a_volume(mode: str, channels: int | None) -> None:
    network = build_dense_unet(mode, levels=2, block_layers=1, growth=4).eval()
    with torch.no_grad():
        assert network(torch.rand(1, 1, 18, 16, 5)).shape == (1, 1, 18, 16, 5)
    convolution = network.network.stem if channels else network.stem  # type: ignore[union-attr]
    assert convolution.in_channels == (channels or 1)  # type: ignore[union-attr]


def test_two_and_a_half_dimensions_see_one_slice_farther_than_two() -> None:
    volume = torch.rand(1, 1, 16, 16, 7, generator=torch.Generator().manual_seed(0))
    changed = volume.clone()
    changed[..., 3] += 1
    for mode, expected in (("2d", [3]), ("2.5d", [2, 3, 4])):
        torch.manual_seed(0)
        network = build_dense_unet(mode, levels=2, block_layers=1, growth=4).eval()
        with torch.no_grad():
            moved = (network(volume) != network(changed)).flatten(0, 3).any(0)
        assert moved.nonzero().flatten().tolist() == expected


def test_an_unknown_mode_names_the_known() -> None:
    with pytest.raises(ConfigError, match=r"2d, 2.5d, 3d"):
        build_dense_unet("4d")


@pytest.mark.parametrize("act", [*SURVEY, "maxout_relu"])
def test_every_activation_trains(act: str) -> None:
    torch.manual_seed(0)
    network = small(2, act=act, norm="batch_renorm", dropout=0.2).train()
    network(torch.rand(2, 1, 18, 16)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
