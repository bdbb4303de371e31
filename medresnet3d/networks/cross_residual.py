"""Residual networks with cross connections inside and between their blocks.

Shen et al. (2018) let information flow across the two convolutions of a residual block for HEp-2 cells. That there are
such connections is the paper's; where exactly they go is not known to us, and what is here is our choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from medresnet3d.errors import ConfigError
from medresnet3d.names import require_name
from medresnet3d.networks.classifier_base import ClassifierBase
from medresnet3d.networks.resnet import BasicBlock
from medresnet3d.networks.width import scaled

CROSS = ("none", "intra", "inter", "both")


class CrossStage(nn.Sequential):
    r"""Blocks of one width, with the inner activation of each block carried on.

    With :math:`h_b = f(\mathrm{BN}(W_1 x_b))` the output of block b is

    .. math:: x_{b+1} = f(\mathrm{BN}(W_2 h_b) + x_b + [\text{intra}]\, h_b + [\text{inter}]\, h_{b-1})

    where the first block of a stage has no :math:`h_{b-1}`. Cross connections are identities and have no parameters.

    Args:
        *blocks: the blocks, of which the first may change width and resolution.
        intra: add the block's own inner activation.
        inter: add that of the block before.
    """

    def __init__(self, *blocks: BasicBlock, intra: bool, inter: bool) -> None:
        super().__init__(*blocks)
        self.intra, self.inter = intra, inter

    def forward(self, x: Tensor) -> Tensor:
        """Run the blocks."""
        before: Tensor | None = None
        blocks: list[Any] = list(self)
        for block in blocks:
            inner = block.act1(block.bn1(block.conv1(x)))
            total = block.bn2(block.conv2(inner)) + block.downsample(x)
            if self.intra:
                total = total + inner
            if self.inter and before is not None:
                total = total + before
            x, before = block.act(total), inner
        return x


class CrossResNet(ClassifierBase):
    """A ResNet of basic blocks with cross connections; without them it is ResNet, with the same names of parameters.

    Args:
        repeats: blocks of each stage; (3, 3, 3, 3) makes 26 layers, (2, 2, 2, 2) those of ResNet-18.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of logits.
        cross: ``"none"``, ``"intra"``, ``"inter"`` or ``"both"``, see :class:`CrossStage`.
        options: see :class:`~medresnet3d.networks.classifier_base.ClassifierBase`.

    Raises:
        ConfigError: for an unknown ``cross``, or no stage.
    """

    published_names: ClassVar[tuple[tuple[str, str], ...]] = ((r"^fc\.", "classifier."),)
    linear_layers: ClassVar[str] = r"\bdownsample\b"

    def __init__(
        self,
        repeats: Sequence[int] = (3, 3, 3, 3),
        spatial_dims: int = 2,
        in_channels: int = 1,
        num_classes: int = 6,
        cross: str = "intra",
        **options: Any,
    ) -> None:
        super().__init__(spatial_dims, **options)
        require_name("Cross connection", cross, CROSS)
        if not repeats or min(repeats) < 1:
            raise ConfigError(f"repeats is {list(repeats)}; give each stage one or more blocks.")
        channels = scaled(64, self.width)
        self.conv1 = self.layers.conv(in_channels, channels, 7, stride=self.stem_stride)
        self.bn1 = self.layers.normalisation(channels)
        self.act = self.layers.activation(channels)
        self.maxpool = self.layers.max_pool()
        self.depth = len(repeats)
        for number, blocks in enumerate(repeats):
            planes = scaled(64 * 2**number, self.width)
            made = [BasicBlock(self.layers, channels, planes, 2 if number else 1)]
            made += [BasicBlock(self.layers, planes, planes) for _ in range(blocks - 1)]
            stage = CrossStage(*made, intra=cross in ("intra", "both"), inter=cross in ("inter", "both"))
            self.add_module(f"layer{number + 1}", stage)
            channels = planes
        self.pool = self.layers.average_pool()
        self.initialise("fan_out")
        self.finish(channels, num_classes)

    @torch.jit.unused
    def stage_patterns(self) -> tuple[str, ...]:
        """As for every classifier; there are as many stages as ``repeats`` has."""
        return (r"(conv1|bn1|act)\.", *(rf"layer{number + 1}\." for number in range(self.depth)))

    def feature_map(self, x: torch.Tensor) -> torch.Tensor:
        """Feature maps in front of the pooling, (B, F, ...)."""
        x = self.maxpool(self.act(self.bn1(self.conv1(x))))
        for number in range(self.depth):
            x = self.get_submodule(f"layer{number + 1}")(x)
        return x
