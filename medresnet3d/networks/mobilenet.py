"""MobileNet (version 1) in 2D and 3D: depthwise separable convolutions throughout.

Paper: A. G. Howard et al. MobileNets: efficient convolutional neural networks for mobile vision applications.
arXiv:1704.04861 (2017).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from monai.networks.layers.factories import Act, Conv, Pool
from monai.networks.layers.utils import get_norm_layer
from torch import nn

from medresnet3d.networks.heads.linear import LinearHead
from medresnet3d.networks.width import scaled

# (channels out, number of blocks); the first block of every stage but the first has stride two
_STAGES = ((64, 1), (128, 2), (256, 2), (512, 6), (1024, 2))
_STEM = 32


class SeparableBlock(nn.Module):
    """Depthwise 3-convolution, then pointwise convolution, each with normalisation and ReLU6.

    The two convolutions have ``in_channels * 3**spatial_dims + in_channels * out_channels`` weights.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels in.
        out_channels: channels out.
        stride: stride of the depthwise convolution.
        norm: normalisation, by its name in MONAI's factory.
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, stride: int = 1, norm: str | tuple = "batch"
    ) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        self.conv_dw = conv(in_channels, in_channels, 3, stride=stride, padding=1, groups=in_channels, bias=False)
        self.bn1 = get_norm_layer(norm, spatial_dims, in_channels)
        self.conv_pw = conv(in_channels, out_channels, 1, bias=False)
        self.bn2 = get_norm_layer(norm, spatial_dims, out_channels)
        self.act = Act["relu6"](inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, ...) to (B, out_channels, ...)."""
        return self.act(self.bn2(self.conv_pw(self.act(self.bn1(self.conv_dw(x))))))


class MobileNetV1(nn.Module):
    """MobileNet-v1 (2D, three channels, 1000 classes: 4,231,976 parameters); names are those of timm.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of logits.
        width: the paper's width multiplier; 1.0 is the published size.
        stem_stride: stride of the first convolution: 2 as published; 1 keeps detail in small cubes.
        norm: normalisation, by its name in MONAI's factory.

    Shapes: (B, in_channels, ...) to (B, num_classes) logits.
    """

    published_names: ClassVar[tuple[tuple[str, str], ...]] = ()

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
        channels = scaled(_STEM, width)
        conv = Conv[Conv.CONV, spatial_dims]
        self.conv_stem = conv(in_channels, channels, 3, stride=stem_stride, padding=1, bias=False)
        self.bn1 = get_norm_layer(norm, spatial_dims, channels)
        self.act = Act["relu6"](inplace=True)
        stages = []
        for number, (stage_channels, repeats) in enumerate(_STAGES):
            out = scaled(stage_channels, width)
            strides = [2 if number else 1] + [1] * (repeats - 1)
            blocks = [
                SeparableBlock(spatial_dims, out if index else channels, out, stride, norm)
                for index, stride in enumerate(strides)
            ]
            stages.append(nn.Sequential(*blocks))
            channels = out
        self.blocks = nn.Sequential(*stages)
        self.pool = Pool[Pool.ADAPTIVEAVG, spatial_dims](1)
        self.classifier = LinearHead(channels, num_classes)
        for module in self.modules():
            if isinstance(module, conv):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Globally pooled features, (B, F)."""
        return self.pool(self.blocks(self.act(self.bn1(self.conv_stem(x))))).flatten(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, (B, num_classes)."""
        return self.classifier(self.forward_features(x))
