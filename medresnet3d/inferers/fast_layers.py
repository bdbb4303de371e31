"""Layers computed another way where PyTorch's own way is slow on a CPU in bf16, channels last."""

from __future__ import annotations

import math
from itertools import product
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from monai.networks.blocks.convolutions import ResidualUnit
from torch import nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from medresnet3d.inferers.folding import NARROW, ActivatedConvolution, WideOutput, replace_module
from medresnet3d.inferers.fused_layers import (
    FusedConvolution,
    FusedDeconvolution,
    SummedConvolution,
    rectified_convolution,
    slope_of,
)

WIDE = 16
"""Channels from which on normalisation without leaving channels last is the faster way."""
NARROW_FP32 = 32
"""Channels up to which a convolution to a few logits computes in fp32."""


def use_fast_layers(network: nn.Module) -> None:
    """Replace in ``network`` itself what is slow: certain normalisations, convolutions and MONAI's residual units."""
    for name, module in list(network.named_modules()):
        hooked = module._forward_hooks or module._forward_pre_hooks
        if name and not hooked and _is_still_there(network, name, module):
            faster = _faster(module)
            if faster is not None:
                replace_module(network, name, faster)


def _faster(module: nn.Module) -> nn.Module | None:
    """A module that computes the same in less time, if one is known."""
    if type(module) is nn.InstanceNorm3d and not module.track_running_stats and module.num_features >= WIDE:
        return ChannelsLastInstanceNorm(module)
    if type(module) is nn.ConvTranspose3d and SubpixelDeconvolution.fits(module):
        return SubpixelDeconvolution(module)
    if isinstance(module, WideOutput) and NarrowConvolution.fits(module.layer):
        return NarrowConvolution(module.layer)
    if type(module) is ActivatedConvolution:
        return _activated(module)
    if type(module) is ResidualUnit and SummedConvolution.fits(module):
        return SummedConvolution(module)
    if type(module) is ResidualUnit and any(isinstance(layer, nn.Conv3d) for layer in module.conv.modules()):
        return InPlaceResidual(module)
    return None


def _activated(pair: ActivatedConvolution) -> nn.Module | None:
    if FusedConvolution.fits(pair):
        return FusedConvolution(pair)
    if not FusedDeconvolution.fits(pair):
        return None
    assert isinstance(pair.layer, nn.ConvTranspose3d)
    if SubpixelDeconvolution.fits(pair.layer):
        return SubpixelDeconvolution(pair.layer, slope_of(pair.activation))
    return FusedDeconvolution(pair)


def _is_still_there(network: nn.Module, name: str, module: nn.Module) -> bool:
    """Whether the module has not been replaced together with one around it."""
    try:
        return network.get_submodule(name) is module
    except AttributeError:
        return False


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
        slope: by which what is negative is scaled.
    """

    def __init__(self, deconvolution: nn.ConvTranspose3d, slope: float = 1.0) -> None:
        super().__init__()
        self.slope = slope
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
        padded = F.pad(x, pads)
        ones, none = (1, 1, 1), (0, 0, 0)
        fine = (
            F.conv3d(padded, self.weight, self.bias)
            if self.slope == 1
            else rectified_convolution(padded, self.weight, self.bias, ones, none, ones, 1, slope=self.slope)
        )
        return interleaved(fine, self.stride, self.channels)


def interleaved(x: torch.Tensor, stride: tuple[int, ...], channels: int) -> torch.Tensor:
    """Turn channels into voxels: (B, stride^3 * channels, i, j, k) to (B, channels, stride * i, ...).

    One function for torch, so that whoever follows a network's functions meets it as such.
    """
    if has_torch_function_unary(x):
        return torch.as_tensor(handle_torch_function(interleaved, (x,), x, stride, channels))
    batch, size = x.shape[0], x.shape[2:]
    fine = x.permute(0, 2, 3, 4, 1).reshape(batch, *size, *stride, channels).permute(0, 1, 4, 2, 5, 3, 6, 7)
    return fine.reshape(batch, *(n * s for n, s in zip(size, stride, strict=True)), channels).movedim(-1, 1)


class NarrowConvolution(nn.Module):
    """A convolution with few output channels, with the places along the last axis of its kernel as further channels.

    oneDNN pads output channels to 16; three columns of the kernel with four channels each fill 12 of them, at a third
    of the work. From few channels that is so little that it computes in fp32: bf16 rounds a logit of 18 by up to 0.06,
    which changes more labels than all else in a VoxResNet.

    Args:
        convolution: a layer that :meth:`fits`.

    Attributes:
        wide: whether it computes in fp32, with weights in fp32.
    """

    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        self.channels = convolution.out_channels
        self.wide = convolution.in_channels <= NARROW_FP32
        kernel = convolution.weight.detach().movedim(-1, 0).flatten(0, 1)[..., None]
        self.weight = nn.Parameter(kernel.contiguous(), requires_grad=False)
        self.bias = convolution.bias

    @staticmethod
    def fits(layer: nn.Module) -> TypeGuard[nn.Conv3d]:
        """Whether it is a 3 x 3 x 3 convolution that keeps the size and gives few channels."""
        if type(layer) is not nn.Conv3d:
            return False
        same = layer.kernel_size == (3, 3, 3) and layer.padding == (1, 1, 1) and layer.padding_mode == "zeros"
        plain = layer.groups == 1 and set(layer.stride) == set(layer.dilation) == {1}
        return same and plain and 3 * layer.out_channels <= WIDE

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C_in, i, j, k) to (B, C_out, i, j, k), fp32."""
        x = x.float() if self.wide else x
        left, middle, right = F.conv3d(x, self.weight, padding=(1, 1, 0)).float().split(self.channels, dim=1)
        total = middle.clone() if self.bias is None else middle + self.bias.view(-1, 1, 1, 1)
        total[..., 1:] += left[..., :-1]
        total[..., :-1] += right[..., 1:]
        return total
