from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.networks.nets import UNet
from torch import nn

from medresnet3d.inferers.execution import _cast
from medresnet3d.inferers.fast_layers import (
    ChannelsLastInstanceNorm,
    InPlaceResidual,
    NarrowConvolution,
    SubpixelDeconvolution,
    use_fast_layers,
)
from medresnet3d.inferers.folding import ActivatedConvolution, fold
from medresnet3d.networks.voxresnet import VoxResNet


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "output_padding"),
    [
        (3, 2, 1, 1),
        (2, 2, 0, 0),
        (4, 2, 1, 0),
        (6, 4, 1, 0),
        (4, 4, 0, 0),
        ((1, 3, 3), (1, 2, 2), (0, 1, 1), (0, 1, 1)),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_a_transposed_convolution_by_subpixels(
    kernel: Any, stride: Any, padding: Any, output_padding: Any, bias: bool
) -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose3d(3, 2, kernel, stride, padding, output_padding, bias=bias).requires_grad_(False)
    assert SubpixelDeconvolution.fits(layer)
    x = torch.randn(2, 3, 4, 5, 6)
    torch.testing.assert_close(SubpixelDeconvolution(layer)(x), layer(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose3d(4, 64, 2, 2),
        nn.ConvTranspose3d(4, 4, 2, 2, groups=2),
        nn.ConvTranspose3d(4, 4, 3, 2, dilation=2),
        nn.ConvTranspose3d(4, 4, 3, 2, 1),
        nn.ConvTranspose3d(4, 4, 3, 1, 1),
    ],
    ids=["wide", "grouped", "dilated", "another size", "no stride"],
)
def test_other_transposed_convolutions_are_left_alone(layer: nn.ConvTranspose3d) -> None:
    assert not SubpixelDeconvolution.fits(layer)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("affine", [True, False])
def test_instance_normalisation(batch: int, affine: bool) -> None:
    torch.manual_seed(0)
    norm = nn.InstanceNorm3d(16, affine=affine).requires_grad_(False)
    if affine:
        nn.init.uniform_(norm.weight)
        nn.init.uniform_(norm.bias)
    x = torch.randn(batch, 16, 4, 5, 6).to(memory_format=torch.channels_last_3d) * 3 + 1
    torch.testing.assert_close(ChannelsLastInstanceNorm(norm)(x), norm(x), rtol=1e-4, atol=1e-5)


def test_a_network_with_fast_layers_answers_the_same() -> None:
    torch.manual_seed(0)
    network = UNet(3, 1, 2, (16, 16, 32), (2, 2), num_res_units=1).eval()
    x = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        expected = network(x)
        use_fast_layers(network)
        kinds = {type(module) for module in network.modules()}
        assert {ChannelsLastInstanceNorm, InPlaceResidual, SubpixelDeconvolution} <= kinds
        before = x.clone()
        torch.testing.assert_close(network(x), expected, rtol=1e-3, atol=1e-4)
    assert torch.equal(x, before)


@pytest.mark.parametrize("bias", [True, False])
def test_a_narrow_convolution(bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Conv3d(48, 4, 3, padding=1, bias=bias).requires_grad_(False)
    assert NarrowConvolution.fits(layer)
    x = torch.randn(2, 48, 4, 5, 6)
    torch.testing.assert_close(NarrowConvolution(layer)(x), layer(x), rtol=1e-4, atol=1e-5)
    assert not NarrowConvolution.fits(nn.Conv3d(48, 14, 3, padding=1))
    assert not NarrowConvolution.fits(nn.Conv3d(48, 4, 3))


@torch.no_grad()
def test_logits_of_few_channels_are_not_rounded() -> None:
    torch.manual_seed(0)
    layer = nn.Conv3d(8, 4, 3, padding=1).requires_grad_(False)
    layer.weight.data = (layer.weight.data * 64).bfloat16().float()
    x = torch.randn(1, 8, 6, 6, 6).bfloat16().float()
    network = nn.ModuleList([NarrowConvolution(layer)])
    _cast(network, torch.bfloat16, last=True)
    answer = network[0](x.bfloat16())
    assert network[0].wide
    assert answer.dtype == torch.float32
    torch.testing.assert_close(answer, layer(x), rtol=1e-4, atol=1e-4)
    assert float((layer(x).bfloat16().float() - layer(x)).abs().max()) > 0.1
    assert not NarrowConvolution(nn.Conv3d(48, 4, 3, padding=1)).wide


def test_final_convolutions_that_are_summed_become_narrow_ones() -> None:
    torch.manual_seed(0)
    network = VoxResNet(3, 1, 4, width=48).eval()
    x = torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad():
        expected = network(x)
        fold(network, tuple(x.shape))
        use_fast_layers(network)
        assert sum(isinstance(module, NarrowConvolution) for module in network.modules()) == 4
        torch.testing.assert_close(network(x), expected, rtol=1e-3, atol=1e-4)


def test_a_rectifier_behind_subpixels_is_computed_before_them() -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose3d(8, 3, 3, stride=2, padding=1, output_padding=1).bfloat16().requires_grad_(False)
    network = nn.Sequential(ActivatedConvolution(layer, nn.LeakyReLU(0.2)))
    x = torch.randn(1, 8, 4, 5, 6).bfloat16().contiguous(memory_format=torch.channels_last_3d)
    expected = network(x).float()
    use_fast_layers(network)
    assert type(network[0]) is SubpixelDeconvolution
    assert float((network(x).float() - expected).abs().max()) <= 2**-7 * float(expected.abs().max())
