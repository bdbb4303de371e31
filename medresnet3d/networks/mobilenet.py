"""MobileNet (version 1) in 2D and 3D: depthwise separable convolutions throughout.

Paper: A. G. Howard et al. MobileNets: efficient convolutional neural networks for mobile vision applications.
arXiv:1704.04861 (2017).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from medresnet3d.networks.classifier_base import ClassifierBase
from medresnet3d.networks.layers.activations import LayerName
from medresnet3d.networks.layers.choice import LayerChoice
from medresnet3d.networks.width import scaled

# (channels out, number of blocks); the first block of every stage but the first has stride two
_STAGES = ((64, 1), (128, 2), (256, 2), (512, 6), (1024, 2))
_STEM = 32


class SeparableBlock(nn.Module):
    """Depthwise 3-convolution, then pointwise convolution, each with normalisation and activation.

    The two convolutions have ``in_channels * 3**spatial_dims + in_channels * out_channels`` weights.

    Args:
        layers: what it is made of.
        in_channels: channels in.
        out_channels: channels out.
        stride: stride of the depthwise convolution.
    """

    def __init__(self, layers: LayerChoice, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv_dw = layers.conv(in_channels, in_channels, 3, stride=stride, groups=in_channels)
        self.bn1 = layers.normalisation(in_channels)
        self.act1 = layers.activation(in_channels)
        self.conv_pw = layers.conv(in_channels, out_channels, 1)
        self.bn2 = layers.normalisation(out_channels)
        self.act2 = layers.activation(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, ...) to (B, out_channels, ...)."""
        return self.act2(self.bn2(self.conv_pw(self.act1(self.bn1(self.conv_dw(x))))))


class MobileNetV1(ClassifierBase):
    """MobileNet-v1 (2D, three channels, 1000 classes: 4,231,976 parameters); names are those of timm.

    The activation is ReLU6 unless ``act`` names another.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of logits.
        options: see :class:`ClassifierBase`; ``width`` is the paper's width multiplier.
    """

    own_act: ClassVar[LayerName] = "relu6"
    own_stages: ClassVar[tuple[str, ...]] = (
        r"(conv_stem|bn1|act)\.",
        *(rf"blocks\.{n}\." for n in range(len(_STAGES))),
    )

    def __init__(self, spatial_dims: int = 3, in_channels: int = 1, num_classes: int = 2, **options: Any) -> None:
        super().__init__(spatial_dims, **options)
        channels = scaled(_STEM, self.width)
        self.conv_stem = self.layers.conv(in_channels, channels, 3, stride=self.stem_stride)
        self.bn1 = self.layers.normalisation(channels)
        self.act = self.layers.activation(channels)
        stages = []
        for number, (stage_channels, repeats) in enumerate(_STAGES):
            out = scaled(stage_channels, self.width)
            strides = [2 if number else 1] + [1] * (repeats - 1)
            blocks = [
                SeparableBlock(self.layers, out if index else channels, out, stride)
                for index, stride in enumerate(strides)
            ]
            stages.append(nn.Sequential(*blocks))
            channels = out
        self.blocks = nn.Sequential(*stages)
        self.pool = self.layers.average_pool()
        self.initialise("fan_out")
        self.finish(channels, num_classes)

    def feature_map(self, x: torch.Tensor) -> torch.Tensor:
        """Feature maps in front of the pooling, (B, F, ...)."""
        return self.blocks(self.act(self.bn1(self.conv_stem(x))))
