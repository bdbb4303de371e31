"""A fully convolutional residual network that fuses the features of all its levels into one dense map.

After the first stage of J. Mo, L. Zhang, Y. Feng. Exudate-based diabetic macular edema recognition in retinal images
using cascaded deep residual networks. Neurocomputing 290 (2018) 161-171, known to us from its abstract: a fully
convolutional residual network that fuses multi-level features. How it fuses them is our choice.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from medresnet3d.networks.layers.activations import LayerName
from medresnet3d.networks.layers.resize import resize
from medresnet3d.networks.resnet import BasicBlock, ResNetClassifier

PRIOR = 0.01
"""Probability that every place gets at first, since most places are no lesion (T.-Y. Lin et al. 2017)."""


class MultiLevelFCN(nn.Module):
    """A ResNet whose four stages are scored, brought to the finest resolution one after another, and added on the way.

    From the coarsest level to the finest: what came from below is doubled in size and added to a 1-convolution of the
    level's own features; a residual block follows. A 1-convolution gives the logits of the finest level, and one of
    each other level its auxiliary logits.

    Args:
        depth: of the ResNet.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: number of dense logits.
        width: factor on the ResNet's channels.
        fusion_channels: channels that every level is brought to.
        stem_stride: stride of the first convolution. The levels have 1, 2, 4 and 8 times this stride, since the ResNet
            has no pooling behind it.
        norm: normalisation as MONAI names it, or (name, options).
        act: activation by its name in MONAI's ``Act`` factory, or (name, options).
        dropout: rate at which whole channels of the finest level are dropped in training.

    Shapes: (B, in_channels, ...) of any size to logits (B, out_channels, ...) of the same. In training mode a list:
    those, then the auxiliary logits from the second finest level to the coarsest, all of the image's size.

    Raises:
        ConfigError: for a depth that no ResNet has, or an unknown activation.

    Example:
        >>> MultiLevelFCN(width=0.25).eval()(torch.zeros(1, 3, 61, 48)).shape
        torch.Size([1, 1, 61, 48])
    """

    def __init__(
        self,
        depth: int = 18,
        spatial_dims: int = 2,
        in_channels: int = 3,
        out_channels: int = 1,
        *,
        width: float = 1.0,
        fusion_channels: int = 32,
        stem_stride: int = 2,
        norm: LayerName | None = None,
        act: LayerName | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        options: dict[str, Any] = {"width": width, "stem_stride": stem_stride, "norm": norm, "act": act}
        self.trunk = ResNetClassifier(depth, spatial_dims, in_channels, 1, stem_pool=False, **options)
        layers, channels = self.trunk.layers, self.trunk.stage_channels
        for unused in ("pool", "dropout", "classifier"):
            self.trunk.add_module(unused, nn.Identity())
        self.scores = nn.ModuleList(layers.conv(number, fusion_channels, 1, bias=True) for number in channels)
        self.blocks = nn.ModuleList(BasicBlock(layers, fusion_channels, fusion_channels) for _ in channels)
        self.heads = nn.ModuleList(_head(spatial_dims, fusion_channels, out_channels) for _ in channels)
        self.drop = nn.Dropout2d(dropout) if spatial_dims == 2 else nn.Dropout3d(dropout)

    def fused(self, x: Tensor) -> list[Tensor]:
        """Fused maps of each level, the finest first, each (B, fusion_channels, ...)."""
        maps = self.trunk.feature_maps(x)
        scored: list[Tensor] = []
        for index, score in enumerate(self.scores):
            scored.append(score(maps[index]))
        below = scored[-1]
        levels: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            here = scored[len(scored) - 1 - index]
            if index > 0:
                here = here + resize(below, list(here.shape[2:]))
            below = block(here)
            levels.insert(0, below)
        return levels

    def forward(self, x: Tensor) -> Tensor:
        """Dense logits; in training mode a list, see the class."""
        levels = self.fused(x)
        levels[0] = self.drop(levels[0])
        logits: list[Tensor] = []
        for index, head in enumerate(self.heads):
            if index == 0 or self.training:
                logits.append(resize(head(levels[index]), list(x.shape[2:])))
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript skips a branch for this condition alone
            if self.training:
                return logits  # type: ignore[return-value]
        return logits[0]


def _head(spatial_dims: int, channels: int, out_channels: int) -> nn.Module:
    """The convolution to dense logits, which start at the prior."""
    head: Any = Conv[Conv.CONV, spatial_dims](channels, out_channels, 1)
    nn.init.normal_(head.weight, std=0.01)
    nn.init.constant_(head.bias, -math.log(1 / PRIOR - 1))
    return head  # type: ignore[no-any-return]
