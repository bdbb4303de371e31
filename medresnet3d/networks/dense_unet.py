"""A U-Net of dense blocks with parallel dilated convolutions at its bottom, for volumes or slice by slice.

After Y. Zhu, X. Qin (2019), a U-Net with dense connections and dilated multi-scale features for nodule detection, known
to us from a survey only. Dense blocks: G. Huang et al. Densely connected convolutional networks. CVPR 2017. Parallel
dilations: L.-C. Chen et al. DeepLab. IEEE TPAMI 40 (2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.layers.factories import Conv
from monai.networks.layers.utils import get_dropout_layer
from torch import Tensor, nn

from medresnet3d.names import require_name
from medresnet3d.networks.layers.activations import LayerName, maxout_pieces
from medresnet3d.networks.layers.choice import LayerChoice
from medresnet3d.networks.layers.maxout import use_maxout
from medresnet3d.networks.slice_wise import SliceWise
from medresnet3d.networks.width import scaled

MODES = ("2d", "2.5d", "3d")


class _Unit(nn.Sequential):
    """Normalisation, activation, convolution."""

    def __init__(self, layers: LayerChoice, before: int, after: int, kernel_size: int, dilation: int = 1) -> None:
        padding = dilation * (kernel_size // 2)
        super().__init__(
            layers.normalisation(before),
            layers.activation(before, in_place=layers.norm != ""),  # features that others read are not overwritten
            layers.conv(before, after, kernel_size, padding=padding, dilation=dilation),
        )


class DenseBlock(nn.Module):
    """Layers that each see the input and what all layers before them gave.

    Args:
        layers: what it is made of.
        in_channels: channels C in.
        count: number L of layers.
        growth: channels k that each gives.

    Shapes: (B, C, ...) to (B, C + k L, ...).
    """

    def __init__(self, layers: LayerChoice, in_channels: int, count: int = 4, growth: int = 16) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Unit(layers, in_channels + number * growth, growth, 3) for number in range(count))
        self.out_channels = in_channels + count * growth

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        return x


class ParallelDilations(nn.Module):
    """Convolutions of several dilations side by side, brought together by a 1-convolution.

    MONAI's ``SimpleASPP`` does the same; this one takes every activation of this package.

    Args:
        layers: what it is made of.
        channels: channels in and out; each branch gives an equal part of them, at least one.
        dilations: of the branches.
    """

    def __init__(self, layers: LayerChoice, channels: int, dilations: Sequence[int] = (1, 2, 4, 8)) -> None:
        super().__init__()
        part = max(1, channels // len(dilations))
        self.branches = nn.ModuleList(_Unit(layers, channels, part, 3, dilation) for dilation in dilations)
        self.joined = _Unit(layers, part * len(dilations), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, ...) to the same shape."""
        parts: list[Tensor] = []
        for branch in self.branches:
            parts.append(branch(x))
        return self.joined(torch.cat(parts, dim=1))


class DenseUNet(nn.Module):
    """U-Net whose levels are dense blocks, with :class:`ParallelDilations` between encoder and decoder.

    Each level of the encoder is a dense block; a 1-convolution halves its channels before the resolution is halved.
    Each level of the decoder is a transposed convolution, the features of the same resolution beside it, and a dense
    block with a 1-convolution behind it. Sizes that are no multiple of the coarsest grid are padded with zeros at the
    far end and cropped back.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: number of logits.
        levels: dense blocks of the encoder; the bottom has 1 / 2^levels of the resolution.
        block_layers: layers L of each dense block.
        growth: channels k that each layer adds; the first convolution gives 2 k.
        width: factor on the growth.
        dilations: at the bottom.
        norm: normalisation as MONAI names it, or (name, options); ``""`` for none.
        act: activation by its name in MONAI's ``Act`` factory, or (name, options). With ``"maxout"`` or
            ``"maxout_relu"`` all convolutions but that of the logits are maxout layers.
        dropout: rate at which whole channels are dropped in front of the logits, in training.

    Shapes: (B, in_channels, ...) to (B, out_channels, ...).

    Raises:
        ConfigError: for an unknown activation.
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 1,
        *,
        levels: int = 4,
        block_layers: int = 4,
        growth: int = 16,
        width: float = 1.0,
        dilations: Sequence[int] = (1, 2, 4, 8),
        norm: LayerName = "batch",
        act: LayerName = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        layers, growth = LayerChoice(spatial_dims, norm, act), scaled(growth, width)
        self.stride = 2**levels
        self.stem = layers.conv(in_channels, 2 * growth, 3)
        self.encoder, self.transitions = nn.ModuleList(), nn.ModuleList()
        self.upsampling, self.decoder = nn.ModuleList(), nn.ModuleList()
        self.pool = layers.max_pool(2, 2, 0)
        channels, skips = 2 * growth, []
        for _ in range(levels):
            block = DenseBlock(layers, channels, block_layers, growth)
            channels = block.out_channels // 2
            self.encoder.append(block)
            self.transitions.append(_Unit(layers, block.out_channels, channels, 1))
            skips.append(channels)
        self.bottom = ParallelDilations(layers, channels, dilations)
        for skip in reversed(skips):
            self.upsampling.append(Conv[Conv.CONVTRANS, spatial_dims](channels, skip, 2, stride=2))
            block = DenseBlock(layers, 2 * skip, block_layers, growth)
            channels = skip
            self.decoder.append(nn.Sequential(block, _Unit(layers, block.out_channels, channels, 1)))
        self.dropout = get_dropout_layer(dropout, spatial_dims)
        self.last = nn.Sequential(
            layers.normalisation(channels), layers.activation(channels, in_place=layers.norm != "")
        )
        self.classifier = layers.conv(channels, out_channels, 1, bias=True)
        if maxout_pieces(act):
            use_maxout(self, maxout_pieces(act), r"^classifier$")

    def forward(self, x: Tensor) -> Tensor:
        """Logits, see the class."""
        size = x.shape
        padding: list[int] = []
        for axis in range(x.dim() - 1, 1, -1):
            padding.extend([0, (self.stride - x.shape[axis] % self.stride) % self.stride])
        x = self.stem(nn.functional.pad(x, padding))
        skips: list[Tensor] = []
        for block, transition in zip(self.encoder, self.transitions):  # noqa: B905 - TorchScript knows no strict
            skips.append(transition(block(x)))
            x = self.pool(skips[-1])
        x = self.bottom(x)
        for up, block in zip(self.upsampling, self.decoder):  # noqa: B905
            x = block(torch.cat([up(x), skips.pop()], dim=1))
        logits = self.classifier(self.dropout(self.last(x)))
        for axis in range(2, logits.dim()):
            logits = logits.narrow(axis, 0, size[axis])
        return logits


def build_dense_unet(mode: str = "3d", *, neighbours: int = 1, **options: Any) -> nn.Module:
    """Build a :class:`DenseUNet` of volumes, which computes in 3D or slice by slice.

    Args:
        mode: ``3d``; ``2d``: every slice across the last axis by itself; ``2.5d``: with its neighbours as channels.
        neighbours: slices on each side that ``2.5d`` sees.
        **options: of :class:`DenseUNet`.

    Returns:
        a network from (B, 1, i, j, k) to (B, 1, i, j, k).

    Raises:
        ConfigError: if the mode is unknown.
    """
    require_name("Mode", mode, MODES)
    if mode == "3d":
        return DenseUNet(3, 1, **options)
    around = neighbours if mode == "2.5d" else 0
    return SliceWise(DenseUNet(2, 2 * around + 1, **options), around)
