"""Residual trunks for several scales of one thing, with attention on their residual functions.

After the second stage of Y. Yao, J. Zhang (2019), an attention-based multi-scale 3D residual network, known to us from
a survey only; which attention, which scales and how they are joined is our reading. Channel attention: J. Hu, L. Shen,
G. Sun. Squeeze-and-excitation networks. CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from monai.networks.blocks import ChannelSELayer
from torch import Tensor, nn

from medresnet3d.networks.classifier_base import ClassifierBase
from medresnet3d.networks.layers.choice import LayerChoice
from medresnet3d.networks.layers.resize import resize
from medresnet3d.networks.resnet import BasicBlock
from medresnet3d.networks.width import scaled

WIDTHS = (16, 32, 64, 128)


class AttentionBlock(BasicBlock):
    r"""A residual block whose residual function is weighted by channel and by place.

    .. math:: y = \phi\bigl(x + r \cdot c(r) \cdot s(r \cdot c(r))\bigr)

    with the residual function r, its channels' weights c (squeeze and excitation) and its places' weights s, the
    sigmoid of a 1-convolution.

    Args:
        layers: what it is made of.
        in_channels: channels in.
        planes: channels out.
        stride: of the first convolution.
        reduction: factor between the channels and the hidden features of their weights, which are four at least.
    """

    def __init__(self, layers: LayerChoice, in_channels: int, planes: int, stride: int = 1, reduction: int = 8) -> None:
        super().__init__(layers, in_channels, planes, stride)
        # the residual function was normalised, so its means are near 0, and a hidden ReLU may be dead from the start
        hidden = ("leakyrelu", {"negative_slope": 0.1})
        self.channels = ChannelSELayer(
            layers.spatial_dims, planes, r=max(1, min(reduction, planes // 4)), acti_type_1=hidden
        )
        self.places = layers.conv(planes, 1, 1, bias=True)

    def weighted(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The residual function weighted by channel, and the weights of its places (B, 1, ...)."""
        residual = self.channels(self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x))))))
        return residual, torch.sigmoid(self.places(residual))

    def residual(self, x: Tensor) -> Tensor:
        """The residual function, which is added to the shortcut."""
        residual, weights = self.weighted(x)
        return residual * weights


class MultiScaleAttentionResNet(ClassifierBase):
    """A classifier of several scales of one thing, packed as channels: a residual trunk each, joined at the last layer.

    Args:
        spatial_dims: 2 or 3.
        scales: channels of the input; each has a trunk of its own.
        num_classes: number of logits; 1 for one question.
        widths: channels of the stages of a trunk; each but the first halves the resolution.
        blocks: residual blocks of a stage.
        reduction: see :class:`AttentionBlock`.
        attention: without, the blocks are plain residual ones.
        options: see :class:`~medresnet3d.networks.classifier_base.ClassifierBase`.

    Shapes: (B, scales, ...) to (B, num_classes).
    """

    own_stages: ClassVar[tuple[str, ...]] = tuple(rf"trunks\.\d+\.{stage}\." for stage in range(len(WIDTHS)))
    linear_layers: ClassVar[str] = r"\bdownsample\b|\bplaces$"

    def __init__(
        self,
        spatial_dims: int = 3,
        scales: int = 3,
        num_classes: int = 1,
        *,
        widths: Sequence[int] = WIDTHS,
        blocks: int = 2,
        reduction: int = 8,
        attention: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(spatial_dims, **options)
        planes = [scaled(number, self.width) for number in widths]

        def block(before: int, after: int, stride: int) -> nn.Module:
            if attention:
                return AttentionBlock(self.layers, before, after, stride, reduction)
            return BasicBlock(self.layers, before, after, stride)

        def trunk() -> nn.Sequential:
            stages, before = [], 1
            for number, after in enumerate(planes):
                first = block(before, after, 1 if number == 0 else 2)
                stages.append(nn.Sequential(first, *(block(after, after, 1) for _ in range(blocks - 1))))
                before = after
            return nn.Sequential(*stages)

        self.trunks = nn.ModuleList(trunk() for _ in range(scales))
        self.pool = self.layers.average_pool()
        self.initialise()
        self.finish(scales * planes[-1], num_classes)

    def feature_map(self, x: Tensor) -> Tensor:
        """Feature maps of all scales in front of the pooling, (B, scales * F, ...)."""
        parts: list[Tensor] = []
        for scale, trunk in enumerate(self.trunks):
            parts.append(trunk(x[:, scale : scale + 1]))
        return torch.cat(parts, dim=1)

    @torch.jit.unused
    def attention(self, x: Tensor) -> Tensor:
        """The weights of places of each scale's last stage, interpolated to the input's size, (B, scales, ...), 0 to 1.

        The mean over the blocks of the stage. Earlier stages weigh edges and noise; where their weights rise differs
        from one training to the next.

        Raises:
            TypeError: for a network without attention.
        """
        maps = []
        for scale, trunk in enumerate(self.trunks):
            seen = trunk[:-1](x[:, scale : scale + 1])  # type: ignore[index]
            weights = []
            for block in trunk[-1]:  # type: ignore[index]
                if not isinstance(block, AttentionBlock):
                    raise TypeError("this network was built without attention.")
                weights.append(block.weighted(seen)[1])
                seen = block(seen)
            maps.append(torch.stack(weights).mean(0))
        return resize(torch.cat(maps, dim=1), list(x.shape[2:]))
