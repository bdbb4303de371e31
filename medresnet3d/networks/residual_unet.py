"""A residual encoder and decoder for dense labels that computes nearly everything at half resolution.

Residual blocks and strided convolutions between them are those of V-Net (F. Milletari, N. Navab, S.-A. Ahmadi, 3DV
2016), as M. Liu et al. (NeuroImage 2020) use them for the hippocampus. Ours is that the full resolution has a few
channels only: with kernels of three voxels a side, a convolution at full size costs eight times one at half size, while
a smooth structure such as the hippocampus needs the fine grid for its border alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from monai.networks.layers.factories import Conv
from monai.networks.layers.utils import get_dropout_layer
from torch import nn
from torch.nn import functional

from medresnet3d.networks.layers.activations import LayerName, maxout_pieces
from medresnet3d.networks.layers.choice import LayerChoice
from medresnet3d.networks.layers.maxout import use_maxout
from medresnet3d.networks.resnet import BasicBlock
from medresnet3d.networks.staged_network import StagedNetwork


class ResidualUNet(StagedNetwork):
    """Residual blocks at three resolutions, skips that are summed, and one small convolution at full size.

    The last convolution sees the image itself beside what comes from below. Sizes that are no multiple of eight are
    padded with zeros at the far end and cropped back.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: number of classes K, background included.
        width: channels at half resolution; a quarter has twice, an eighth four times as many.
        fine: channels at full resolution.
        blocks: residual blocks of the encoder at 1/2, 1/4 and 1/8; the decoder has one at 1/4 and 1/2 each.
        norm: normalisation as MONAI names it, or (name, options); ``""`` for none. At full size there is none.
        act: activation by its name in MONAI's ``Act`` factory, or (name, options), ``"maxout"`` or ``"maxout_relu"``;
            then all convolutions but that of the logits are maxout layers.
        dropout: rate at which whole channels of the lowest resolution are dropped, in training.

    Shapes: (B, in_channels, ...) to (B, K, ...) logits.

    Raises:
        ConfigError: for an unknown activation.

    Example:
        >>> ResidualUNet(3, 1, 3, width=8, fine=4).eval()(torch.zeros(1, 1, 35, 50, 36)).shape
        torch.Size([1, 3, 35, 50, 36])
    """

    own_stages: ClassVar[tuple[str, ...]] = (r"down1\.", r"down2\.", r"down3\.")

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 3,
        width: int = 32,
        fine: int = 8,
        blocks: Sequence[int] = (1, 2, 2),
        norm: LayerName = "batch",
        act: LayerName = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        layers = LayerChoice(spatial_dims, norm, act)
        wide, widest = 2 * width, 4 * width

        def rise(before: int, after: int) -> nn.Module:
            layer: nn.Module = Conv[Conv.CONVTRANS, spatial_dims](before, after, 2, stride=2)
            return layer

        self.down1 = nn.Sequential(*_halved(layers, in_channels, width, 4), *_blocks(layers, width, blocks[0]))
        self.down2 = nn.Sequential(*_halved(layers, width, wide), *_blocks(layers, wide, blocks[1]))
        self.down3 = nn.Sequential(*_halved(layers, wide, widest), *_blocks(layers, widest, blocks[2]))
        self.features = widest
        self.dropout = get_dropout_layer(dropout, spatial_dims)
        self.up3 = rise(widest, wide)
        self.block2 = BasicBlock(layers, wide, wide)
        self.up2 = rise(wide, width)
        self.block1 = BasicBlock(layers, width, width)
        self.up1 = rise(width, fine)
        self.border = layers.conv(fine + in_channels, fine, 3, bias=True)
        self.act = layers.activation(fine)
        self.classifier = layers.conv(fine, out_channels, 1, bias=True)
        if maxout_pieces(act):
            use_maxout(self, maxout_pieces(act), r"^classifier$")

    def encode(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The padded image and features at 1/2, 1/4 and 1/8 of its size, (B, C, ...)."""
        stride = 8  # between the full resolution and the lowest one
        padding: list[int] = []
        for axis in range(x.dim() - 1, 1, -1):
            padding.extend([0, (stride - x.shape[axis] % stride) % stride])
        image = functional.pad(x, padding)
        half = self.down1(image)
        quarter = self.down2(half)
        return [image, half, quarter, self.down3(quarter)]

    def decode(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Logits (B, K, ...) of the padded size."""
        image, half, quarter, lowest = features
        quarter = self.block2(self.up3(self.dropout(lowest)) + quarter)
        half = self.block1(self.up2(quarter) + half)
        full = torch.cat([self.up1(half), image], dim=1)
        return self.classifier(self.act(self.border(full)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Segment a batch; see the class."""
        logits = self.decode(self.encode(x))
        for axis in range(2, x.dim()):
            logits = logits.narrow(axis, 0, x.shape[axis])
        return logits


def _halved(layers: LayerChoice, before: int, after: int, kernel: int = 2) -> list[nn.Module]:
    """Convolution of stride two and an even kernel, normalisation, activation."""
    convolution = layers.conv(before, after, kernel, stride=2, padding=kernel // 2 - 1)
    return [convolution, layers.normalisation(after), layers.activation(after)]


def _blocks(layers: LayerChoice, channels: int, count: int) -> list[nn.Module]:
    return [BasicBlock(layers, channels, channels) for _ in range(count)]
