"""A residual, fully convolutional network with a head for centres and a head for masks: candidates of a detector.

After the first stage of Y. Yao, J. Zhang (2019), a 3D fully convolutional network with a hybrid loss, known to us from
a survey only; the U-shape, the residual blocks and the two heads are our reading.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.networks.layers.factories import Conv
from monai.networks.layers.utils import get_dropout_layer
from torch import Tensor, nn

from medresnet3d.networks.layers.activations import LayerName, maxout_pieces
from medresnet3d.networks.layers.choice import LayerChoice
from medresnet3d.networks.layers.maxout import use_maxout
from medresnet3d.networks.resnet import BasicBlock
from medresnet3d.networks.width import scaled

WIDTHS = (16, 32, 64, 128)
PRIOR = 0.01
"""Probability that both heads give every voxel at first, since most voxels are no nodule (T.-Y. Lin et al. 2017)."""


class ResidualFCN(nn.Module):
    """An encoder and a decoder of residual blocks, joined at each resolution, and two heads.

    Each level halves the resolution of the one before. Sizes that are no multiple of the coarsest grid are padded with
    zeros at the far end and cropped back.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        widths: channels of each level, from the finest.
        width: factor on these numbers.
        norm: normalisation as MONAI names it, or (name, options); ``""`` for none.
        act: activation by its name in MONAI's ``Act`` factory, or (name, options). With ``"maxout"`` or
            ``"maxout_relu"`` all convolutions but those of the shortcuts and those that give the logits are maxout
            layers, see :class:`~medresnet3d.networks.classifier_base.ClassifierBase`.
        dropout: rate at which whole channels are dropped in front of the heads, in training.

    Shapes: (B, in_channels, ...) to logits (B, 2, ...): whether a voxel is near a centre, and whether it is in a mask.

    Raises:
        ConfigError: for an unknown activation.

    Example:
        >>> ResidualFCN(2, width=0.25).eval()(torch.zeros(1, 1, 30, 33)).shape
        torch.Size([1, 2, 30, 33])
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        widths: Sequence[int] = WIDTHS,
        width: float = 1.0,
        norm: LayerName = "batch",
        act: LayerName = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        layers = LayerChoice(spatial_dims, norm, act)
        channels = [scaled(number, width) for number in widths]
        self.encoder, self.upsampling, self.decoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.encoder.append(BasicBlock(layers, in_channels, channels[0]))
        for fine, coarse in pairwise(channels):
            self.encoder.append(BasicBlock(layers, fine, coarse, stride=2))
            self.upsampling.insert(0, Conv[Conv.CONVTRANS, spatial_dims](coarse, fine, 2, stride=2))
            self.decoder.insert(0, BasicBlock(layers, 2 * fine, fine))
        self.dropout = get_dropout_layer(dropout, spatial_dims)
        self.centres, self.masks = _head(layers, channels[0]), _head(layers, channels[0])
        self.stride = 2 ** (len(channels) - 1)
        if maxout_pieces(act):
            use_maxout(self, maxout_pieces(act), r"\bdownsample\b|\bclassifier$")

    def forward(self, x: Tensor) -> Tensor:
        """Logits, see the class."""
        size = x.shape
        padding: list[int] = []
        for axis in range(x.dim() - 1, 1, -1):
            padding.extend([0, (self.stride - x.shape[axis] % self.stride) % self.stride])
        x = nn.functional.pad(x, padding)
        levels: list[Tensor] = []
        for block in self.encoder:
            x = block(x)
            levels.append(x)
        levels.pop()
        for up, block in zip(self.upsampling, self.decoder):  # noqa: B905 - TorchScript knows no strict
            x = block(torch.cat([up(x), levels.pop()], dim=1))
        x = self.dropout(x)
        logits = torch.cat([self.centres(x), self.masks(x)], dim=1)
        for axis in range(2, logits.dim()):
            logits = logits.narrow(axis, 0, size[axis])
        return logits


def _head(layers: LayerChoice, channels: int) -> nn.Sequential:
    """A residual block and the convolution to one logit, which starts at the prior."""
    classifier = layers.conv(channels, 1, 1, bias=True)
    nn.init.constant_(classifier.bias, -math.log(1 / PRIOR - 1))  # type: ignore[arg-type]
    return nn.Sequential(OrderedDict(block=BasicBlock(layers, channels, channels), classifier=classifier))
