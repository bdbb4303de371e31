"""Xception in 2D and 3D: residual blocks of depthwise separable convolutions.

Paper: F. Chollet. Xception: deep learning with depthwise separable convolutions. CVPR 2017.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from monai.networks.layers.factories import Act, Conv, Pool
from monai.networks.layers.utils import get_norm_layer
from torch import nn

from medresnet3d.networks.heads.linear import LinearHead
from medresnet3d.networks.width import scaled


class SeparableConv(nn.Module):
    """Depthwise 3-convolution and pointwise convolution with nothing between them.

    It has ``in_channels * 3**spatial_dims + in_channels * out_channels`` weights.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels in.
        out_channels: channels out.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        self.conv1 = conv(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
        self.pointwise = conv(in_channels, out_channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, ...) to (B, out_channels, ...)."""
        return self.pointwise(self.conv1(x))


class XceptionBlock(nn.Module):
    """Separable convolutions, each with ReLU before and normalisation after, plus a shortcut.

    Args:
        spatial_dims: 2 or 3.
        channels: channels in, then channels after each separable convolution.
        stride: 2 ends with max pooling and strides the shortcut; 1 keeps the size.
        relu_first: whether the first separable convolution has its ReLU (not in the first block of the network).
        norm: normalisation, by its name in MONAI's factory.
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: tuple[int, ...],
        stride: int = 1,
        relu_first: bool = True,
        norm: str | tuple = "batch",
    ) -> None:
        super().__init__()
        rep: list[nn.Module] = []
        for index, (before, after) in enumerate(pairwise(channels)):
            if index or relu_first:
                rep.append(Act["relu"](inplace=index > 0))  # the shortcut still needs the block's input
            rep += [SeparableConv(spatial_dims, before, after), get_norm_layer(norm, spatial_dims, after)]
        if stride > 1:
            rep.append(Pool[Pool.MAX, spatial_dims](kernel_size=3, stride=stride, padding=1))
        self.rep = nn.Sequential(*rep)
        self.skip: nn.Module = nn.Identity()
        self.skipbn: nn.Module = nn.Identity()
        if stride > 1 or channels[0] != channels[-1]:
            conv = Conv[Conv.CONV, spatial_dims]
            self.skip = conv(channels[0], channels[-1], 1, stride=stride, bias=False)
            self.skipbn = get_norm_layer(norm, spatial_dims, channels[-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, channels[0], ...) to (B, channels[-1], ...)."""
        return self.rep(x) + self.skipbn(self.skip(x))


class Xception(nn.Module):
    """Xception (2D, three channels, 1000 classes: 22,855,952 parameters); names are those of Cadene's port and timm.

    Entry flow: convolutions of 32 (stride two) and 64 channels, residual blocks of 128, 256 and 728; middle flow:
    eight blocks of three separable convolutions of 728; exit flow: a block of 728 and 1024, then separable
    convolutions of 1536 and 2048. The published last layer, ``fc`` or ``last_linear``, is ``classifier`` here.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of logits.
        width: factor on every number of channels; 1.0 is the published size.
        stem_stride: stride of the first convolution: 2 as published; 1 keeps detail in small cubes.
        norm: normalisation, by its name in MONAI's factory.

    Shapes: (B, in_channels, ...), every edge at least 8, to (B, num_classes) logits.
    """

    published_names: ClassVar[tuple[tuple[str, str], ...]] = ((r"^(fc|last_linear)\.", "classifier."),)

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        num_classes: int = 2,
        width: float = 1.0,
        stem_stride: int = 2,
        norm: str | tuple = "batch",
    ) -> None:
        super().__init__()
        c32, c64, c128, c256, c728, c1024, c1536, c2048 = (
            scaled(channels, width) for channels in (32, 64, 128, 256, 728, 1024, 1536, 2048)
        )
        conv = Conv[Conv.CONV, spatial_dims]
        self.act = Act["relu"](inplace=True)
        self.conv1 = conv(in_channels, c32, 3, stride=stem_stride, bias=False)
        self.bn1 = get_norm_layer(norm, spatial_dims, c32)
        self.conv2 = conv(c32, c64, 3, bias=False)
        self.bn2 = get_norm_layer(norm, spatial_dims, c64)
        middle = (c728,) * 4
        self.block1 = XceptionBlock(spatial_dims, (c64, c128, c128), 2, False, norm)
        self.block2 = XceptionBlock(spatial_dims, (c128, c256, c256), 2, True, norm)
        self.block3 = XceptionBlock(spatial_dims, (c256, c728, c728), 2, True, norm)
        self.block4 = XceptionBlock(spatial_dims, middle, 1, True, norm)
        self.block5 = XceptionBlock(spatial_dims, middle, 1, True, norm)
        self.block6 = XceptionBlock(spatial_dims, middle, 1, True, norm)
        self.block7 = XceptionBlock(spatial_dims, middle, 1, True, norm)
        self.block8 = XceptionBlock(spatial_dims, middle, 1, True, norm)
        self.block9 = XceptionBlock(spatial_dims, middle, 1, True, norm)
        self.block10 = XceptionBlock(spatial_dims, middle, 1, True, norm)
        self.block11 = XceptionBlock(spatial_dims, middle, 1, True, norm)
        self.block12 = XceptionBlock(spatial_dims, (c728, c728, c1024), 2, True, norm)
        self.conv3 = SeparableConv(spatial_dims, c1024, c1536)
        self.bn3 = get_norm_layer(norm, spatial_dims, c1536)
        self.conv4 = SeparableConv(spatial_dims, c1536, c2048)
        self.bn4 = get_norm_layer(norm, spatial_dims, c2048)
        self.pool = Pool[Pool.ADAPTIVEAVG, spatial_dims](1)
        self.classifier = LinearHead(c2048, num_classes)
        for module in self.modules():
            if isinstance(module, conv):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Globally pooled features, (B, F)."""
        x = self.act(self.bn1(self.conv1(x)))
        x = self.act(self.bn2(self.conv2(x)))
        x = self.block3(self.block2(self.block1(x)))
        x = self.block7(self.block6(self.block5(self.block4(x))))
        x = self.block11(self.block10(self.block9(self.block8(x))))
        x = self.block12(x)
        x = self.act(self.bn3(self.conv3(x)))
        x = self.act(self.bn4(self.conv4(x)))
        return self.pool(x).flatten(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, (B, num_classes)."""
        return self.classifier(self.forward_features(x))
