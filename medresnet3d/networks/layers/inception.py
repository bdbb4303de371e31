"""What Inception networks are made of: convolutions with normalisation and activation, in branches side by side."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.networks.layers.factories import Pool
from torch import nn

from medresnet3d.networks.layers.choice import LayerChoice
from medresnet3d.networks.width import scaled


class ConvNormAct(nn.Module):
    """Convolution, normalisation and activation; their names ``conv`` and ``bn`` are those of torchvision and timm.

    A kernel of two edges (1, 7) factorises a square one. In 3D the last edge holds for the third axis too, (1, 7, 7),
    so that the factors (7, 1) and (1, 7) together still see every place of the cube.

    Args:
        layers: what it is made of.
        in_channels: channels in.
        out_channels: channels out.
        kernel_size: edge of the kernel, or its two edges.
        options: stride and padding of the convolution; by default the padding keeps the size.

    Shapes: (B, in_channels, ...) to (B, out_channels, ...).
    """

    def __init__(
        self,
        layers: LayerChoice,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int] = 1,
        **options: Any,
    ) -> None:
        super().__init__()
        edges: int | Sequence[int] = kernel_size
        if isinstance(kernel_size, tuple) and layers.spatial_dims == 3:
            edges = (*kernel_size, kernel_size[-1])
        self.conv = layers.conv(in_channels, out_channels, edges, **options)
        self.bn = layers.normalisation(out_channels)
        self.act = layers.activation(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the layer."""
        return self.act(self.bn(self.conv(x)))


class MeanPool(nn.Module):
    """Mean over three places with stride one, which keeps the size.

    torch's 3D pooling refuses a map of one or two places although it is padded to three, so the padding is done here.

    Args:
        spatial_dims: 2 or 3.
        count_include_pad: whether the zeros beyond the border count as places.
    """

    def __init__(self, spatial_dims: int, count_include_pad: bool) -> None:
        super().__init__()
        self.padding = [1, 1] * spatial_dims
        self.count_include_pad = count_include_pad
        self.pool = Pool[Pool.AVG, spatial_dims](kernel_size=3, stride=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, ...) to the same shape."""
        mean = self.pool(nn.functional.pad(x, self.padding))
        if self.count_include_pad:
            return mean
        inside = torch.ones_like(x[:1, :1])
        return mean / self.pool(nn.functional.pad(inside, self.padding))


class Branches(nn.ModuleDict):
    """Modules that all see the same input; their outputs are concatenated along the channels, in order."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, ...) to (B, sum of the branches' channels, ...)."""
        outputs = []
        for branch in self.values():
            outputs.append(branch(x))
        return torch.cat(outputs, 1)


@dataclass(frozen=True)
class Layer:
    """One convolution of a block.

    Args:
        channels: channels out, as published.
        kernel: edge of the kernel, or its two edges.
        stride: its stride.
        padded: whether the border is padded so that stride one keeps the size.
    """

    channels: int
    kernel: int | tuple[int, int] = 1
    stride: int = 1
    padded: bool = True


def reduction(channels: int) -> Layer:
    """A 3-convolution with stride two and no padding."""
    return Layer(channels, 3, stride=2, padded=False)


Step = Layer | Mapping[str, Layer] | Callable[[], nn.Module]
"""A convolution, several side by side, or what makes a pooling."""
Block = Mapping[str, Sequence[Step]]
"""Name of each branch and its steps, one after another."""


class BlockBuilder:
    """Makes the stages of an Inception network in their order and keeps count of the channels.

    Args:
        layers: what they are made of.
        width: factor on the published numbers of channels.
        channels: channels of the image.
        first: number that the first step of a branch has in its name.

    Attributes:
        channels: channels after the last stage made.
    """

    def __init__(self, layers: LayerChoice, width: float, channels: int, first: int = 0) -> None:
        self.layers, self.width, self.channels, self.first = layers, width, channels, first

    def conv(self, layer: Layer) -> nn.Module:
        """A stage of one convolution."""
        module, self.channels = self._conv(layer, self.channels)
        return module

    def block(self, block: Block) -> Branches:
        """A stage of branches side by side; a branch of one step has no number in its names."""
        made = {name: self._branch(steps) for name, steps in block.items()}
        self.channels = sum(channels for _, channels in made.values())
        return Branches({name: module for name, (module, _) in made.items()})

    def _branch(self, steps: Sequence[Step]) -> tuple[nn.Module, int]:
        channels = self.channels
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        for number, step in enumerate(steps, self.first):
            modules[str(number)], channels = self._step(step, channels)
        return (next(iter(modules.values())) if len(modules) == 1 else nn.Sequential(modules)), channels

    def _step(self, step: Step, channels: int) -> tuple[nn.Module, int]:
        if isinstance(step, Layer):
            return self._conv(step, channels)
        if isinstance(step, Mapping):
            pairs = {name: self._conv(layer, channels) for name, layer in step.items()}
            return Branches({name: module for name, (module, _) in pairs.items()}), sum(c for _, c in pairs.values())
        return step(), channels

    def _conv(self, layer: Layer, channels: int) -> tuple[nn.Module, int]:
        out = scaled(layer.channels, self.width)
        options = {"stride": layer.stride, **({} if layer.padded else {"padding": 0})}
        return ConvNormAct(self.layers, channels, out, layer.kernel, **options), out
