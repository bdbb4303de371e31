from __future__ import annotations

import pytest
import torch
from torch import nn

from medresnet3d.networks.layers.choice import LayerChoice
from medresnet3d.networks.layers.inception import BlockBuilder, Branches, ConvNormAct, Layer, MeanPool, reduction


@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_mean_pool_is_torchs(spatial_dims: int, count_include_pad: bool) -> None:
    theirs = (nn.AvgPool2d if spatial_dims == 2 else nn.AvgPool3d)(3, 1, 1, count_include_pad=count_include_pad)
    image = torch.randn(2, 3, *(5, 6, 7)[:spatial_dims])
    torch.testing.assert_close(MeanPool(spatial_dims, count_include_pad)(image), theirs(image))


@pytest.mark.parametrize("edge", [1, 2])
def test_mean_pool_takes_the_smallest_maps_which_torchs_3d_pooling_refuses(edge: int) -> None:
    image = torch.rand(1, 1, edge, edge, edge)
    torch.testing.assert_close(MeanPool(3, False)(image), image.mean().expand_as(image))
    with pytest.raises(RuntimeError):
        nn.AvgPool3d(3, 1, 1)(image)


def test_factors_of_a_kernel_see_the_whole_cube_together() -> None:
    layers = LayerChoice(3)
    first, second = ConvNormAct(layers, 1, 1, (7, 1)), ConvNormAct(layers, 1, 1, (1, 7))
    assert tuple(first.conv.weight.shape[2:]) == (7, 1, 1)
    assert tuple(second.conv.weight.shape[2:]) == (1, 7, 7)
    image = torch.zeros(1, 1, 11, 11, 11, requires_grad=True)
    second.conv(first.conv(image))[0, 0, 5, 5, 5].backward()
    assert image.grad is not None
    seen = image.grad[0, 0].nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [7, 7, 7]


def test_a_block_counts_its_channels_and_names_its_steps() -> None:
    build = BlockBuilder(LayerChoice(2), 0.5, channels=6, first=1)
    block = build.block(
        {
            "one": [Layer(8)],
            "three": [Layer(4), {"a": Layer(6, (1, 3)), "b": Layer(6, (3, 1))}],
            "pool": [lambda: MeanPool(2, True), Layer(10)],
        }
    )
    assert isinstance(block, Branches)
    assert build.channels == 4 + 3 + 3 + 5
    assert block(torch.rand(2, 6, 5, 5)).shape == (2, 15, 5, 5)
    kernels = [name for name, parameter in block.named_parameters() if parameter.ndim == 4]
    assert kernels == [
        "one.conv.weight",
        "three.1.conv.weight",
        "three.2.a.conv.weight",
        "three.2.b.conv.weight",
        "pool.2.conv.weight",
    ]


def test_a_reduction_halves_the_map_without_padding() -> None:
    build = BlockBuilder(LayerChoice(3), 1.0, channels=2)
    assert build.conv(reduction(3))(torch.rand(2, 2, 9, 9, 9)).shape == (2, 3, 4, 4, 4)
