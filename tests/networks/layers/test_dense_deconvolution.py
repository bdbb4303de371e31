from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medresnet3d.networks.dsfcn import TransposedConvolution
from medresnet3d.networks.layers.choice import LayerChoice
from medresnet3d.networks.layers.dense_deconvolution import DenseDeconvolution


def layer(dims: int, seed: int = 0) -> DenseDeconvolution:
    torch.manual_seed(seed)
    return DenseDeconvolution(LayerChoice(dims), 6, 4)


def offset(output: Tensor, number: int) -> Tensor:
    """The places of an interleaved output (B, C, ...) that map ``number`` (from 0) fills."""
    dims = output.ndim - 2
    digits = [number >> (dims - 1 - axis) & 1 for axis in range(dims)]
    return output[(slice(None), slice(None), *(slice(digit, None, 2) for digit in digits))]


@pytest.mark.parametrize("dims", [2, 3])
def test_every_axis_is_twice_as_long_and_each_map_has_its_places(dims: int) -> None:
    upsampling, x = layer(dims), torch.randn(2, 6, *[5, 4, 3][:dims])
    output = upsampling.interleaved(x)
    assert upsampling(x).shape == output.shape == (2, 4, *[10, 8, 6][:dims])
    found = x
    for number, convolution in enumerate(upsampling.maps):
        one = convolution(found)
        torch.testing.assert_close(offset(output, number), one)
        found = torch.cat([found, one], dim=1)
    assert len(upsampling.maps) == 2**dims


@pytest.mark.parametrize("dims", [2, 3])
def test_each_map_depends_on_those_before_it_and_on_none_after(dims: int) -> None:
    upsampling, x = layer(dims), torch.randn(1, 6, *[4] * dims)
    count = 2**dims
    reached = torch.zeros(count, count, dtype=torch.bool)
    for number in range(count):
        upsampling.zero_grad()
        offset(upsampling.interleaved(x), number).sum().backward()
        for other, convolution in enumerate(upsampling.maps):
            gradient = convolution.weight.grad
            reached[number, other] = gradient is not None and bool(gradient.abs().sum() > 0)
    assert torch.equal(reached, torch.ones(count, count).tril().bool())


def checkerboard(upsampling: nn.Module, x: Tensor) -> float:
    """Share of the energy of an output, away from the border, that changes within a cell of two places each way."""
    with torch.no_grad():
        output = upsampling.interleaved(x)  # type: ignore[operator]
    inner = output[(slice(None), slice(None), *[slice(4, -4)] * (x.ndim - 2))]
    places = torch.stack([offset(inner, number) for number in range(2 ** (x.ndim - 2))])
    return float(places.var(0, unbiased=False).mean() / inner.square().mean())


@pytest.mark.parametrize("dims", [2, 3])
def test_a_constant_input_gives_no_checkerboard_unlike_that_of_a_transposed_convolution(dims: int) -> None:
    for seed in range(5):
        ours, x = layer(dims, seed), torch.ones(1, 6, *[10] * dims)
        torch.manual_seed(seed)
        theirs = TransposedConvolution(LayerChoice(dims), 6, 4)
        assert checkerboard(ours, x) < 1e-8
        assert checkerboard(theirs, x) > 0.01
