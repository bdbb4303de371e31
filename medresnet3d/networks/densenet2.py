"""DenseNet-II: a DenseNet whose first convolution is an Inception structure, in 2D and 3D.

Paper: H. Li, S. Zhuang, D. Li, J. Zhao, Y. Ma. Benign and malignant classification of mammogram images based on deep
learning. Biomedical Signal Processing and Control 51 (2019) 347-354. Known to us from its abstract: the first layer of
DenseNet was replaced by an Inception structure; which one is our choice.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar

import torch
from torch import nn

from medresnet3d.networks.densenet import DenseNetClassifier
from medresnet3d.networks.layers.choice import LayerChoice
from medresnet3d.networks.layers.inception import Branches, ConvNormAct
from medresnet3d.networks.width import scaled

#: Share of the stem's channels in the branches of kernel 1, of kernel 5 and of pooling; kernel 3 has the rest.
_SHARES = (16, 16, 8)


class InceptionStem(Branches):
    """Kernels of 1, 3 and 5 and a pooling side by side on the image, each with a stride; of 64 channels 16, 24, 16, 8.

    In front of the kernels of 3 and 5 is a 1-convolution to 16 channels with normalisation and activation, behind the
    pooling a 1-convolution. The last convolutions are bare, since normalisation and activation follow in the network.

    Args:
        layers: what it is made of.
        in_channels: channels of the image.
        out_channels: channels of all branches together, at least 4.
        stride: of each branch.
        kernels: edges of the two larger kernels.

    Shapes: (B, in_channels, ...) to (B, out_channels, ...), every edge divided by the stride, rounded up.
    """

    def __init__(
        self,
        layers: LayerChoice,
        in_channels: int,
        out_channels: int = 64,
        stride: int = 2,
        kernels: tuple[int, int] = (3, 5),
    ) -> None:
        one, five, pooled = (scaled(share, out_channels / 64) for share in _SHARES)
        three, hidden = out_channels - one - five - pooled, scaled(16, out_channels / 64)

        def reduced(channels: int, kernel: int) -> nn.Module:
            first = ConvNormAct(layers, in_channels, hidden)
            second = layers.conv(hidden, channels, kernel, stride=stride)
            return nn.Sequential(OrderedDict(reduce=first, conv=second))

        pool = OrderedDict(pool=layers.max_pool(stride=stride), conv=layers.conv(in_channels, pooled, 1))
        branches = {
            "kernel1": layers.conv(in_channels, one, 1, stride=stride),
            "kernel3": reduced(three, kernels[0]),
            "kernel5": reduced(five, kernels[1]),
            "pooling": nn.Sequential(pool),
        }
        super().__init__(branches)
        self.in_channels, self.out_channels = (
            in_channels,
            out_channels,
        )  # as a convolution tells what it takes and gives


class DenseNet2(DenseNetClassifier):
    """A DenseNet with an :class:`InceptionStem` for its first convolution; everything behind it is DenseNet's own.

    Published weights of a DenseNet go into everything but the stem, which starts at random. 2D DenseNet-121 of one
    channel and two classes has 6,949,634 parameters with its own first layer and 6,956,474 with this one.

    Args:
        options: see :class:`~medresnet3d.networks.densenet.DenseNetClassifier`.
    """

    own_parts: ClassVar[str] = r"features\.conv0\.(kernel|pooling)"
    least_first_channels: ClassVar[int] = 4  # one for each branch
    passed_over: ClassVar[str] = r"features\.conv0\.weight$"

    @torch.jit.unused
    def first_layer(self, layer: nn.Module, in_channels: int) -> nn.Module:
        """The Inception structure, with as many channels as MONAI's layer."""
        channels: int = layer.out_channels  # type: ignore[assignment]
        return InceptionStem(self.layers, in_channels, channels, self.stem_stride)
