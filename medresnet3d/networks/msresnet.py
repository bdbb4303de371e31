"""A residual network of multi-kernel blocks: convolutions of several sizes side by side, in 2D and 3D.

Paper: Z. Liu et al. (2018), MSResNet for the diagnosis of Alzheimer's disease: kernels of different size collect
information of several scales, residual learning. How wide and how deep is not known to us; what is chosen here is
listed as inferred in the bundle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.names import require_name
from medresnet3d.networks.classifier_base import ClassifierBase
from medresnet3d.networks.layers.choice import LayerChoice
from medresnet3d.networks.resnet import shortcut
from medresnet3d.networks.slice_vote import SliceVote
from medresnet3d.networks.width import scaled

STEM = 48
STAGES = (48, 96, 192)
WIDTHS = {"slim": 1 / 3, "paper": 1.0}


class MultiKernelBlock(nn.Module):
    """Residual block whose function is several convolutions side by side, mixed by a 1-convolution.

    Each kernel gives its share of the channels; they are concatenated, normalised and activated, mixed and normalised,
    and the shortcut is added before the last activation.

    Args:
        layers: what it is made of.
        in_channels: channels in.
        channels: channels out.
        stride: stride of the convolutions side by side, and of the shortcut.
        kernels: their sizes, all odd; three equal ones are the same block at one scale.
        zero_init: start with a residual function of zero (the scale of the last normalisation), so that at first the
            block is its shortcut. It has no effect with a normalisation that has no scale.

    Shapes: (B, in_channels, ...) to (B, channels, ...).

    Raises:
        ConfigError: if a kernel is even, or there are more kernels than channels.
    """

    def __init__(
        self,
        layers: LayerChoice,
        in_channels: int,
        channels: int,
        stride: int = 1,
        kernels: Sequence[int] = (3, 5, 7),
        zero_init: bool = True,
    ) -> None:
        super().__init__()
        if not kernels or any(size % 2 == 0 for size in kernels) or len(kernels) > channels:
            raise ConfigError(
                f"Kernels {list(kernels)} for {channels} channels: give odd sizes, and no more of them than channels."
            )
        shares = [channels // len(kernels) + (index < channels % len(kernels)) for index in range(len(kernels))]
        self.scales = nn.ModuleList(
            layers.conv(in_channels, share, size, stride=stride) for share, size in zip(shares, kernels, strict=True)
        )
        self.bn1 = layers.normalisation(channels)
        self.act1 = layers.activation(channels)
        self.mix = layers.conv(channels, channels, 1)
        self.bn2 = layers.normalisation(channels)
        self.downsample = shortcut(layers, in_channels, channels, stride)
        self.act = layers.activation(channels)
        if zero_init and isinstance(getattr(self.bn2, "weight", None), nn.Parameter):
            nn.init.zeros_(self.bn2.weight)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the block."""
        parts = [scale(x) for scale in self.scales]
        mixed = self.bn2(self.mix(self.act1(self.bn1(torch.cat(parts, dim=1)))))
        return self.act(mixed + self.downsample(x))


class MSResNet(ClassifierBase):
    """Stem of a 7-convolution, three stages of multi-kernel blocks, pooled features and a last layer.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of logits.
        blocks: number of blocks in each stage; the second and third begin with a stride of 2.
        kernels: see :class:`MultiKernelBlock`.
        zero_init: see :class:`MultiKernelBlock`.
        options: see :class:`~medresnet3d.networks.classifier_base.ClassifierBase`.
    """

    linear_layers: ClassVar[str] = r"downsample"
    own_stages: ClassVar[tuple[str, ...]] = (r"(conv1|bn1|act)\.", *(rf"stages\.{n}\." for n in (0, 1, 2)))

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        num_classes: int = 2,
        *,
        blocks: Sequence[int] = (2, 2, 2),
        kernels: Sequence[int] = (3, 5, 7),
        zero_init: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(spatial_dims, **options)
        channels = scaled(STEM, self.width)
        self.conv1 = self.layers.conv(in_channels, channels, 7, stride=self.stem_stride)
        self.bn1 = self.layers.normalisation(channels)
        self.act = self.layers.activation(channels)
        self.maxpool = self.layers.max_pool()
        stages = []
        for number, (count, published) in enumerate(zip(blocks, STAGES, strict=True)):
            stage = []
            for index in range(count):
                width, stride = scaled(published, self.width), 2 if number and not index else 1
                stage.append(MultiKernelBlock(self.layers, channels, width, stride, kernels, zero_init))
                channels = width
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.pool = self.layers.average_pool()
        self.initialise("fan_out")
        self.finish(channels, num_classes)

    def feature_map(self, x: torch.Tensor) -> torch.Tensor:
        """Feature maps in front of the pooling, (B, F, ...)."""
        return self.stages(self.maxpool(self.act(self.bn1(self.conv1(x)))))


def build_msresnet(
    spatial_dims: int = 2, num_classes: int = 3, size: str = "paper", vote: str = "mean", **options: Any
) -> nn.Module:
    """Build the network for slices that vote (2D) or for a whole volume (3D).

    Args:
        spatial_dims: 2: images are stacks of slices in the channels, (B, S, h, w), see
            :class:`~medresnet3d.networks.slice_vote.SliceVote`; 3: volumes (B, 1, i, j, k).
        num_classes: number of logits.
        size: ``"paper"`` for 48, 96 and 192 channels, ``"slim"`` for a third.
        vote: how slices vote.
        **options: of :class:`MSResNet`; ``act``, ``norm``, ``dropout`` and ``dropconnect`` may be None for its own.

    Raises:
        ConfigError: for an unknown size or vote.
    """
    width = WIDTHS[require_name("Network size", size, WIDTHS)]
    given = {name: value for name, value in options.items() if value is not None}
    network = MSResNet(spatial_dims, 1, num_classes, width=width, **given)
    return SliceVote(network, vote) if spatial_dims == 2 else network
