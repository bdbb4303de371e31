"""Layers computed another way where PyTorch's own way is slow on a CPU in bf16, channels last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from monai.networks.blocks.convolutions import ResidualUnit
from torch import nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from medresnet3d.inferers.folding import NARROW, ActivatedConvolution, WideOutput, replace_module

WIDE = 16
"""Channels from which on normalisation without leaving channels last is the faster way."""


def use_fast_layers(network: nn.Module) -> None:
    """Replace in ``network`` itself what is slow: certain normalisations, convolutions and MONAI's residual units."""
    for name, module in list(network.named_modules()):
        if not name or module._forward_hooks or module._forward_pre_hooks:
            continue
        if type(module) is nn.InstanceNorm3d and not module.track_running_stats and module.num_features >= WIDE:
            replace_module(network, name, ChannelsLastInstanceNorm(module))
        elif type(module) is nn.ConvTranspose3d and SubpixelDeconvolution.fits(module):
            replace_module(network, name, SubpixelDeconvolution(module))
        elif type(module) is ActivatedConvolution and FusedConvolution.fits(module):
            replace_module(network, name, FusedConvolution(module))
        elif isinstance(module, WideOutput) and NarrowConvolution.fits(module.layer):
            replace_module(network, name, NarrowConvolution(module.layer))
        elif type(module) is ResidualUnit and any(isinstance(layer, nn.Conv3d) for layer in module.conv.modules()):
            replace_module(network, name, InPlaceResidual(module))


class InPlaceResidual(nn.Module):
    """MONAI's residual unit with the sum in the memory of one summand, which its convolutions have just made.

    Args:
        unit: the unit that it computes the same as.
    """

    def __init__(self, unit: ResidualUnit) -> None:
        super().__init__()
        self.conv, self.residual = unit.conv, unit.residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, i, j, k) to (B, C', i', j', k')."""
        skipped, main = self.residual(x), self.conv(x)
        if torch.promote_types(main.dtype, skipped.dtype) != main.dtype:
            return main + skipped
        return main.add_(skipped)


class ChannelsLastInstanceNorm(nn.Module):
    """Instance normalisation of one image as batch normalisation by the batch's statistics, which needs no copy.

    Args:
        norm: the layer that it computes the same as.
    """

    def __init__(self, norm: nn.InstanceNorm3d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (B, C, i, j, k)."""
        if x.shape[0] == 1:
            return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)
        return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)


class SubpixelDeconvolution(nn.Module):
    """A transposed convolution as an ordinary one that gives all voxels between two input voxels as channels.

    Args:
        deconvolution: a layer that :meth:`fits`.
    """

    def __init__(self, deconvolution: nn.ConvTranspose3d) -> None:
        super().__init__()
        self.stride = deconvolution.stride
        self.channels = deconvolution.out_channels
        pairs = list(zip(deconvolution.kernel_size, self.stride, deconvolution.padding, strict=True))
        self.first = [math.ceil((p - k + 1) / s) for k, s, p in pairs]  # type: ignore[operator]
        self.last = [(s - 1 + p) // s for _, s, p in pairs]  # type: ignore[operator]
        self.weight = nn.Parameter(self._rearranged(deconvolution), requires_grad=False)
        bias = deconvolution.bias
        self.bias = None if bias is None else nn.Parameter(bias.repeat(math.prod(self.stride)), requires_grad=False)

    @staticmethod
    def fits(layer: nn.ConvTranspose3d) -> bool:
        """Whether the layer has few output channels and makes the image exactly ``stride`` times as large."""
        sides = zip(layer.kernel_size, layer.stride, layer.padding, layer.output_padding, strict=True)
        exact = all(k + o - 2 * p == s and p < k for k, s, p, o in sides)  # type: ignore[operator]
        plain = layer.groups == 1 and set(layer.dilation) == {1} and layer.padding_mode == "zeros"
        return exact and plain and layer.out_channels <= NARROW and max(layer.stride) > 1

    def _rearranged(self, layer: nn.ConvTranspose3d) -> torch.Tensor:
        """Weight (stride^3 * C_out, C_in, ...) from (C_in, C_out, ...): output ``s q + r`` reads input ``q + t``."""
        sizes = [last - first + 1 for first, last in zip(self.first, self.last, strict=True)]
        weight = layer.weight.new_zeros(*self.stride, layer.out_channels, layer.in_channels, *sizes)
        for inner in product(*map(range, self.stride)):
            for tap in product(*map(range, sizes)):
                place: list[int] = [
                    r + p - s * (t + first)  # type: ignore[operator]
                    for r, p, s, t, first in zip(inner, layer.padding, self.stride, tap, self.first, strict=True)
                ]
                if all(0 <= j < k for j, k in zip(place, layer.kernel_size, strict=True)):
                    index: Any = (slice(None), slice(None), *place)
                    target: Any = (*inner, slice(None), slice(None), *tap)
                    weight[target] = layer.weight.detach()[index].T
        rows = weight.flatten(0, 3)
        return rows.contiguous(memory_format=torch.channels_last_3d)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C_in, i, j, k) to (B, C_out, stride * i, ...)."""
        pads = [
            n for first, last in zip(reversed(self.first), reversed(self.last), strict=True) for n in (-first, last)
        ]
        return interleaved(F.conv3d(F.pad(x, pads), self.weight, self.bias), self.stride, self.channels)


def interleaved(x: torch.Tensor, stride: tuple[int, ...], channels: int) -> torch.Tensor:
    """Turn channels into voxels: (B, stride^3 * channels, i, j, k) to (B, channels, stride * i, ...).

    One function for torch, so that whoever follows a network's functions meets it as such.
    """
    if has_torch_function_unary(x):
        return torch.as_tensor(handle_torch_function(interleaved, (x,), x, stride, channels))
    batch, size = x.shape[0], x.shape[2:]
    fine = x.permute(0, 2, 3, 4, 1).reshape(batch, *size, *stride, channels).permute(0, 1, 4, 2, 5, 3, 6, 7)
    return fine.reshape(batch, *(n * s for n, s in zip(size, stride, strict=True)), channels).movedim(-1, 1)


class FusedConvolution(nn.Module):
    """A convolution that applies its activation before it rounds and writes its output.

    Args:
        pair: a convolution with an activation, which :meth:`fits`.
    """

    def __init__(self, pair: ActivatedConvolution) -> None:
        super().__init__()
        self.layer = pair.layer
        activation = pair.activation
        self.slope = float(activation.negative_slope) if isinstance(activation, nn.LeakyReLU) else 0.0

    @staticmethod
    def fits(pair: ActivatedConvolution) -> bool:
        """Whether it is a 3D convolution with zeros around the image and a (leaky) ReLU, and oneDNN is there."""
        layer = pair.layer
        known = type(layer) is nn.Conv3d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
        return known and type(pair.activation) in (nn.ReLU, nn.LeakyReLU) and _has_fused_convolution()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, i, j, k) to (B, C', i', j', k')."""
        layer: Any = self.layer
        return rectified_convolution(
            x, layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups, slope=self.slope
        )


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
    """Convolve, and scale what is negative by ``slope``; one function for torch, as :func:`interleaved` is."""
    if has_torch_function_unary(input):
        arguments = (input, weight, bias, stride, padding, dilation, groups)
        return torch.as_tensor(handle_torch_function(rectified_convolution, (input,), *arguments, slope=slope))
    result = torch.ops.mkldnn._convolution_pointwise(
        input, weight, bias, list(padding), list(stride), list(dilation), groups, "leaky_relu", [slope], ""
    )
    return torch.as_tensor(result)


@cache
def _has_fused_convolution() -> bool:
    """Whether this build of torch has the operation, and it computes what is expected of it."""
    image = (
        torch.linspace(-1, 1, 2 * 27).bfloat16().view(1, 2, 3, 3, 3).contiguous(memory_format=torch.channels_last_3d)
    )
    weight = torch.ones(2, 2, 1, 1, 1, dtype=torch.bfloat16)
    ones, none = (1, 1, 1), (0, 0, 0)
    try:
        found = rectified_convolution(image, weight, None, ones, none, ones, 1, slope=0.5)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    expected = F.leaky_relu(F.conv3d(image, weight), 0.5)
    return bool(torch.allclose(found.float(), expected.float(), atol=0.02))


class NarrowConvolution(nn.Module):
    """A convolution with few output channels, with the places along the last axis of its kernel as further channels.

    oneDNN pads output channels to 16; three columns of the kernel with four channels each fill 12 of them, at a third
    of the work.

    Args:
        convolution: a layer that :meth:`fits`.
    """

    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        self.channels = convolution.out_channels
        kernel = convolution.weight.detach().movedim(-1, 0).flatten(0, 1)[..., None]
        self.weight = nn.Parameter(kernel.contiguous(), requires_grad=False)
        self.bias = convolution.bias

    @staticmethod
    def fits(layer: nn.Module) -> TypeGuard[nn.Conv3d]:
        """Whether it is a 3 x 3 x 3 convolution that keeps the size, from many channels to few."""
        if type(layer) is not nn.Conv3d:
            return False
        same = layer.kernel_size == (3, 3, 3) and layer.padding == (1, 1, 1) and layer.padding_mode == "zeros"
        plain = layer.groups == 1 and set(layer.stride) == set(layer.dilation) == {1}
        return same and plain and 3 * layer.out_channels <= WIDE and layer.in_channels >= 3 * WIDE

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C_in, i, j, k) to (B, C_out, i, j, k), fp32."""
        left, middle, right = F.conv3d(x, self.weight, padding=(1, 1, 0)).float().split(self.channels, dim=1)
        total = middle.clone() if self.bias is None else middle + self.bias.view(-1, 1, 1, 1)
        total[..., 1:] += left[..., :-1]
        total[..., :-1] += right[..., 1:]
        return total
