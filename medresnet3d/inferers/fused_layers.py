"""Convolutions that compute the activation or the sum behind them before they round and write, by oneDNN."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.blocks.convolutions import Convolution, ResidualUnit
from torch import nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from medresnet3d.inferers.folding import ActivatedConvolution, WideOutput

_RECTIFIERS = (nn.ReLU, nn.LeakyReLU)
_CONTAINERS = (nn.Sequential, Convolution, nn.Identity, WideOutput)
_PLANES = 2  # the first spatial axis


class FusedConvolution(nn.Module):
    """A convolution that applies its activation before it rounds and writes its output.

    Args:
        pair: a convolution with an activation, which :meth:`fits`.
    """

    def __init__(self, pair: ActivatedConvolution) -> None:
        super().__init__()
        self.layer, self.slope = pair.layer, slope_of(pair.activation)

    @staticmethod
    def fits(pair: ActivatedConvolution) -> bool:
        """Whether it is a 3D convolution with zeros around the image and a (leaky) ReLU, and oneDNN is there."""
        layer = pair.layer
        known = type(layer) is nn.Conv3d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
        return known and type(pair.activation) in _RECTIFIERS and has_fused_convolutions()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, i, j, k) to (B, C', i', j', k')."""
        layer: Any = self.layer
        settings = (layer.stride, layer.padding, layer.dilation, layer.groups)
        return rectified_convolution(x, layer.weight, layer.bias, *settings, slope=self.slope)


class FusedDeconvolution(nn.Module):
    """A transposed convolution that applies its activation before it rounds and writes its output.

    Args:
        pair: a transposed convolution with an activation, which :meth:`fits`.
    """

    def __init__(self, pair: ActivatedConvolution) -> None:
        super().__init__()
        self.layer, self.slope = pair.layer, slope_of(pair.activation)

    @staticmethod
    def fits(pair: ActivatedConvolution) -> bool:
        """Whether it is a 3D transposed convolution with a (leaky) ReLU, and oneDNN is there."""
        known = type(pair.layer) is nn.ConvTranspose3d and pair.layer.groups == 1
        return known and type(pair.activation) in _RECTIFIERS and has_fused_convolutions()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, i, j, k) to (B, C', i', j', k')."""
        layer: Any = self.layer
        settings = (layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation)
        return rectified_deconvolution(x, layer.weight, layer.bias, *settings, slope=self.slope)


class SummedConvolution(nn.Module):
    """MONAI's residual unit that adds its input to one convolution of it, with the sum made inside the convolution.

    Where the unit gives the network's few output channels (:class:`~medresnet3d.inferers.folding.WideOutput`), it
    computes in fp32, which costs nothing there and keeps labels from changing.

    Args:
        unit: a unit that :meth:`fits`.

    Attributes:
        wide: whether it computes in fp32, with weights in fp32.
    """

    def __init__(self, unit: ResidualUnit) -> None:
        super().__init__()
        self.layer = _only_convolution(unit.conv)
        self.wide = any(type(module) is WideOutput for module in unit.conv.modules())

    @staticmethod
    def fits(unit: ResidualUnit) -> bool:
        """Whether it has nothing but a 3D convolution that keeps the size, and oneDNN is there."""
        layer = _only_convolution(unit.conv)
        if type(unit.residual) is not nn.Identity or layer is None or not has_fused_convolutions():
            return False
        sides = zip(layer.kernel_size, layer.dilation, layer.padding, strict=False)
        same = all(k % 2 == 1 and p == d * (k // 2) for k, d, p in sides)
        return same and set(layer.stride) == {1} and layer.padding_mode == "zeros"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, i, j, k) to the same shape."""
        layer: Any = self.layer
        settings = (layer.stride, layer.padding, layer.dilation, layer.groups)
        return summed_convolution(x.float() if self.wide else x, layer.weight, layer.bias, *settings)


def _only_convolution(module: nn.Module) -> Any:
    """The one 3D convolution in a module that has nothing else which computes; ``None``: it is not so."""
    layers = [layer for layer in module.modules() if type(layer) not in _CONTAINERS]
    return layers[0] if len(layers) == 1 and type(layers[0]) is nn.Conv3d else None


def slope_of(activation: nn.Module) -> float:
    """By what a (leaky) ReLU scales what is negative."""
    return float(activation.negative_slope) if isinstance(activation, nn.LeakyReLU) else 0.0


def rectified_convolution(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    *,
    slope: float,
) -> torch.Tensor:
    """Convolve, and scale what is negative by ``slope``.

    As all of these, one function for torch, so that whoever follows a network's functions meets it as such.
    """
    if has_torch_function_unary(input):
        arguments = (input, weight, bias, stride, padding, dilation, groups)
        return torch.as_tensor(handle_torch_function(rectified_convolution, (input,), *arguments, slope=slope))
    sizes = (list(padding), list(stride), list(dilation))
    result = torch.ops.mkldnn._convolution_pointwise(input, weight, bias, *sizes, groups, "leaky_relu", [slope], "")
    return torch.as_tensor(result)


def rectified_deconvolution(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    groups: int,
    dilation: Sequence[int],
    *,
    slope: float,
) -> torch.Tensor:
    """:func:`rectified_convolution` transposed."""
    if has_torch_function_unary(input):
        arguments = (input, weight, bias, stride, padding, output_padding, groups, dilation)
        return torch.as_tensor(handle_torch_function(rectified_deconvolution, (input,), *arguments, slope=slope))
    sizes = (list(padding), list(output_padding), list(stride), list(dilation))
    result = torch.ops.mkldnn._convolution_transpose_pointwise(
        input, weight, bias, *sizes, groups, "leaky_relu", [slope], ""
    )
    return torch.as_tensor(result)


def summed_convolution(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> torch.Tensor:
    """Convolve with an odd kernel, and add the input; of planes without padding, only those in the middle remain."""
    if has_torch_function_unary(input):
        arguments = (input, weight, bias, stride, padding, dilation, groups)
        return torch.as_tensor(handle_torch_function(summed_convolution, (input,), *arguments))
    cut = dilation[0] * (weight.shape[_PLANES] // 2) - padding[0]
    summand = input.narrow(_PLANES, cut, input.shape[_PLANES] - 2 * cut)
    sizes = (list(padding), list(stride), list(dilation))
    result = torch.ops.mkldnn._convolution_pointwise.binary(
        input, summand, weight, bias, *sizes, groups, "add", 1.0, None, [], None
    )
    return torch.as_tensor(result)


@cache
def has_fused_convolutions() -> bool:
    """Whether this build of torch has the operations, and they compute what is expected of them."""
    image, weight = _ramp(1, 2, 4, 3, 3), _ramp(2, 2, 3, 1, 1)
    wide = _ramp(2, 3, 2, 2, 2)
    ones, none, twos = (1, 1, 1), (0, 0, 0), (2, 2, 2)
    try:
        found = (
            rectified_convolution(image, weight, None, ones, none, ones, 1, slope=0.5),
            rectified_deconvolution(image, wide, None, twos, ones, ones, 1, ones, slope=0.5),
            summed_convolution(image, weight, None, ones, none, ones, 1),
            summed_convolution(image.float(), weight.float(), None, ones, none, ones, 1),
        )
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    plain = F.conv3d(image.float(), weight.float())
    turned = F.conv_transpose3d(image.float(), wide.float(), stride=2, padding=1, output_padding=1)
    summed = plain + image.float()[:, :, 1:3]
    expected = (F.leaky_relu(plain, 0.5), F.leaky_relu(turned, 0.5), summed, summed)
    pairs = zip(found, expected, strict=True)
    return all(one.shape == other.shape and torch.allclose(one.float(), other, atol=0.05) for one, other in pairs)


def _ramp(*shape: int) -> torch.Tensor:
    """Small numbers of that shape, channels last."""
    values = torch.linspace(-1, 1, torch.Size(shape).numel()).bfloat16()
    return values.view(shape).contiguous(memory_format=torch.channels_last_3d)
