"""Xception in 2D and 3D: residual blocks of depthwise separable convolutions.

Paper: F. Chollet. Xception: deep learning with depthwise separable convolutions. CVPR 2017.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import nn

from medresnet3d.networks.classifier_base import ClassifierBase
from medresnet3d.networks.layers.choice import LayerChoice
from medresnet3d.networks.width import scaled


class SeparableConv(nn.Module):
    """Depthwise 3-convolution and pointwise convolution with nothing between them.

    It has ``in_channels * 3**spatial_dims + in_channels * out_channels`` weights. With maxout the pointwise convolution
    alone has several pieces.

    Args:
        layers: what it is made of.
        in_channels: channels in.
        out_channels: channels out.
    """

    def __init__(self, layers: LayerChoice, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = layers.conv(in_channels, in_channels, 3, groups=in_channels)
        self.pointwise = layers.conv(in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, ...) to (B, out_channels, ...)."""
        return self.pointwise(self.conv1(x))


class XceptionBlock(nn.Module):
    """Separable convolutions, each with activation before and normalisation after, plus a shortcut.

    Args:
        layers: what it is made of. With ``act="maxout"`` the separable convolutions are maxout layers and no activation
            stands before them; with ``"maxout_relu"`` a ReLU does. The shortcut's convolution stays linear.
        channels: channels in, then channels after each separable convolution.
        stride: 2 ends with max pooling and strides the shortcut; 1 keeps the size.
        act_first: whether there is an activation before the first separable convolution (not in the first block).
    """

    def __init__(self, layers: LayerChoice, channels: tuple[int, ...], stride: int = 1, act_first: bool = True) -> None:
        super().__init__()
        rep: list[nn.Module] = []
        for index, (before, after) in enumerate(pairwise(channels)):
            if index or act_first:
                rep.append(layers.activation(before, in_place=index > 0))  # the shortcut still needs the block's input
            rep += [SeparableConv(layers, before, after), layers.normalisation(after)]
        if stride > 1:
            rep.append(layers.max_pool())
        self.rep = nn.Sequential(*rep)
        self.skip: nn.Module = nn.Identity()
        self.skipbn: nn.Module = nn.Identity()
        if stride > 1 or channels[0] != channels[-1]:
            self.skip = layers.conv(channels[0], channels[-1], 1, stride=stride)
            self.skipbn = layers.normalisation(channels[-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, channels[0], ...) to (B, channels[-1], ...)."""
        return self.rep(x) + self.skipbn(self.skip(x))


class Xception(ClassifierBase):
    """Xception (2D, three channels, 1000 classes: 22,855,952 parameters); names are those of Cadene's port and timm.

    Entry flow: convolutions of 32 (stride two) and 64 channels, residual blocks of 128, 256 and 728; middle flow:
    eight blocks of three separable convolutions of 728; exit flow: a block of 728 and 1024, then separable
    convolutions of 1536 and 2048. The published last layer, ``fc`` or ``last_linear``, is ``classifier`` here.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of logits.
        options: see :class:`ClassifierBase`.

    Shapes: (B, in_channels, ...), every edge at least 8, to (B, num_classes) logits.
    """

    published_names: ClassVar[tuple[tuple[str, str], ...]] = ((r"^(fc|last_linear)\.", "classifier."),)
    linear_layers: ClassVar[str] = r"\.conv1$|\bskip$"
    own_stages: ClassVar[tuple[str, ...]] = (
        r"(conv|bn|act)[12]\.",
        r"block[123]\.",
        r"block([4-9]|10|11)\.",
        r"(block12|(conv|bn|act)[34])\.",
    )

    def __init__(self, spatial_dims: int = 3, in_channels: int = 1, num_classes: int = 2, **options: Any) -> None:
        super().__init__(spatial_dims, **options)
        c32, c64, c128, c256, c728, c1024, c1536, c2048 = (
            scaled(channels, self.width) for channels in (32, 64, 128, 256, 728, 1024, 1536, 2048)
        )
        layers = self.layers
        self.conv1 = layers.conv(in_channels, c32, 3, stride=self.stem_stride, padding=0)
        self.bn1 = layers.normalisation(c32)
        self.act1 = layers.activation(c32)
        self.conv2 = layers.conv(c32, c64, 3, padding=0)
        self.bn2 = layers.normalisation(c64)
        self.act2 = layers.activation(c64)
        middle = (c728,) * 4
        self.block1 = XceptionBlock(layers, (c64, c128, c128), 2, act_first=False)
        self.block2 = XceptionBlock(layers, (c128, c256, c256), 2)
        self.block3 = XceptionBlock(layers, (c256, c728, c728), 2)
        self.block4 = XceptionBlock(layers, middle)
        self.block5 = XceptionBlock(layers, middle)
        self.block6 = XceptionBlock(layers, middle)
        self.block7 = XceptionBlock(layers, middle)
        self.block8 = XceptionBlock(layers, middle)
        self.block9 = XceptionBlock(layers, middle)
        self.block10 = XceptionBlock(layers, middle)
        self.block11 = XceptionBlock(layers, middle)
        self.block12 = XceptionBlock(layers, (c728, c728, c1024), 2)
        self.conv3 = SeparableConv(layers, c1024, c1536)
        self.bn3 = layers.normalisation(c1536)
        self.act3 = layers.activation(c1536)
        self.conv4 = SeparableConv(layers, c1536, c2048)
        self.bn4 = layers.normalisation(c2048)
        self.act4 = layers.activation(c2048)
        self.pool = layers.average_pool()
        self.initialise()
        self.finish(c2048, num_classes)

    def feature_map(self, x: torch.Tensor) -> torch.Tensor:
        """Feature maps in front of the pooling, (B, F, ...)."""
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.act2(self.bn2(self.conv2(x)))
        x = self.block3(self.block2(self.block1(x)))
        x = self.block7(self.block6(self.block5(self.block4(x))))
        x = self.block11(self.block10(self.block9(self.block8(x))))
        x = self.block12(x)
        x = self.act3(self.bn3(self.conv3(x)))
        return self.act4(self.bn4(self.conv4(x)))
