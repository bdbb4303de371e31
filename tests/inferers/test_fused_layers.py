from __future__ import annotations

import pytest
import torch
from monai.networks.blocks.convolutions import ResidualUnit
from monai.networks.nets import UNet
from torch import nn

from medresnet3d.inferers.execution import prepare
from medresnet3d.inferers.fast_layers import use_fast_layers
from medresnet3d.inferers.folding import ActivatedConvolution, WideOutput, fold
from medresnet3d.inferers.fused_layers import (
    FusedConvolution,
    FusedDeconvolution,
    SummedConvolution,
    has_fused_convolutions,
    summed_convolution,
)
from medresnet3d.inferers.plane_stream import PlaneStream

pytestmark = pytest.mark.skipif(not has_fused_convolutions(), reason="torch was built without oneDNN's fused layers")


def image(*shape: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(shape).bfloat16().contiguous(memory_format=torch.channels_last_3d)


def same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether they differ by no more than the rounding of a few numbers in bf16."""
    close = float((found.float() - expected.float()).abs().max()) <= 2**-7 * float(expected.float().abs().max())
    return found.shape == expected.shape and found.dtype == expected.dtype and close


@pytest.mark.parametrize("activation", [nn.ReLU(inplace=True), nn.LeakyReLU(0.2, inplace=True)])
@torch.no_grad()
def test_activation_inside_a_convolution_is_that_behind_it(activation: nn.Module) -> None:
    layer = nn.Conv3d(3, 5, (3, 1, 3), stride=(2, 1, 1), padding=(1, 0, 2), dilation=(1, 1, 2)).bfloat16()
    pair = ActivatedConvolution(layer, activation)
    assert FusedConvolution.fits(pair)
    x = image(1, 3, 8, 6, 9)
    assert same(FusedConvolution(pair)(x), pair(x))


@pytest.mark.parametrize("activation", [nn.ReLU(inplace=True), nn.LeakyReLU(0.2, inplace=True)])
@torch.no_grad()
def test_activation_inside_a_transposed_convolution_is_that_behind_it(activation: nn.Module) -> None:
    layer = nn.ConvTranspose3d(3, 16, (3, 2, 4), stride=(2, 1, 3), padding=(1, 0, 2), output_padding=(1, 0, 2))
    pair = ActivatedConvolution(layer.bfloat16(), activation)
    assert FusedDeconvolution.fits(pair)
    x = image(1, 3, 5, 6, 4)
    assert same(FusedDeconvolution(pair)(x), pair(x))


def test_only_rectifiers_behind_plain_convolutions_go_inside() -> None:
    assert not FusedConvolution.fits(ActivatedConvolution(nn.Conv3d(1, 1, 3), nn.SiLU()))
    assert not FusedConvolution.fits(ActivatedConvolution(nn.Conv2d(1, 1, 3), nn.ReLU()))
    assert not FusedConvolution.fits(ActivatedConvolution(nn.Conv3d(1, 1, 3, padding="same"), nn.ReLU()))
    circular = nn.Conv3d(1, 1, 3, padding=1, padding_mode="circular")
    assert not FusedConvolution.fits(ActivatedConvolution(circular, nn.ReLU()))
    assert not FusedDeconvolution.fits(ActivatedConvolution(nn.ConvTranspose3d(4, 4, 3, groups=2), nn.ReLU()))
    assert not FusedDeconvolution.fits(ActivatedConvolution(nn.Conv3d(1, 1, 3), nn.ReLU()))


def unit(out_channels: int = 16, **options: object) -> ResidualUnit:
    return ResidualUnit(3, 16, out_channels, subunits=1, last_conv_only=True, **options).bfloat16().eval()


@pytest.mark.parametrize("kernel", [3, 5])
@torch.no_grad()
def test_sum_inside_a_convolution_is_that_behind_it(kernel: int) -> None:
    residual = unit(kernel_size=kernel)
    assert SummedConvolution.fits(residual)
    x = image(1, 16, 6, 7, 5)
    before = x.clone()
    assert same(SummedConvolution(residual)(x), residual(x))
    assert torch.equal(x, before)


@torch.no_grad()
def test_sum_that_is_the_networks_output_is_not_rounded() -> None:
    torch.manual_seed(0)
    network = UNet(3, 1, 4, (4, 8), (2,), num_res_units=2, norm="batch").eval()
    ready = prepare(network, device="cpu", precision="bf16")
    found = ready(torch.randn(1, 1, 16, 16, 24))
    assert found.dtype == torch.float32
    assert not torch.equal(found, found.bfloat16().float())
    wide = ResidualUnit(3, 4, 4, subunits=1, last_conv_only=True).eval()
    wide.conv = WideOutput(wide.conv.unit0.conv)
    assert SummedConvolution.fits(wide)
    x = image(1, 4, 6, 7, 5)
    assert torch.allclose(SummedConvolution(wide)(x), wide(x.float()), atol=1e-5)


@torch.no_grad()
def test_planes_without_padding_keep_those_in_the_middle() -> None:
    layer, x = nn.Conv3d(16, 16, 3, padding=1).bfloat16(), image(1, 16, 8, 7, 5)
    ones = (1, 1, 1)
    whole = summed_convolution(x, layer.weight, layer.bias, ones, ones, ones, 1)
    part = summed_convolution(x, layer.weight, layer.bias, ones, (0, 1, 1), ones, 1)
    assert torch.equal(part, whole[:, :, 1:-1])


def test_only_units_of_one_convolution_and_their_input_are_summed_inside() -> None:
    assert not SummedConvolution.fits(unit(8))
    assert not SummedConvolution.fits(ResidualUnit(3, 16, 16, subunits=1))
    assert not SummedConvolution.fits(ResidualUnit(3, 16, 16, subunits=2, last_conv_only=True))
    assert not SummedConvolution.fits(ResidualUnit(2, 16, 16, subunits=1, last_conv_only=True))


@torch.no_grad()
def test_network_of_many_classes_goes_slab_by_slab() -> None:
    torch.manual_seed(0)
    network = UNet(3, 1, 14, (4, 8, 16), (2, 2), num_res_units=2, norm="batch").eval()
    x = torch.randn(1, 1, 48, 16, 24)
    exact = network(x)
    fast = UNet(3, 1, 14, (4, 8, 16), (2, 2), num_res_units=2, norm="batch").eval()
    fold(fast, tuple(x.shape))
    use_fast_layers(fast)
    kinds = {type(module) for module in fast.modules()}
    assert {FusedConvolution, FusedDeconvolution, SummedConvolution} <= kinds
    ready = prepare(network, device="cpu", precision="bf16")
    whole = ready(x)
    slabs = torch.cat(list(PlaneStream(ready).run(x.split(8, 2))), 2)
    bound = 0.02 * float(exact.abs().max())
    assert float((whole.float() - exact).abs().max()) <= bound
    assert float((slabs.float() - exact).abs().max()) <= bound
