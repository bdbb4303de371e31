"""The layers of one network: which convolution, normalisation and activation its parts are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from monai.networks.layers.factories import Conv, Pool
from monai.networks.layers.utils import get_norm_layer
from monai.utils import ensure_tuple_rep
from torch import nn

from medresnet3d.networks.layers.activations import LayerName, activation


@dataclass(frozen=True)
class LayerChoice:
    """What a network's parts are made of.

    Args:
        spatial_dims: 2 or 3.
        norm: normalisation by its name in MONAI's ``Norm`` factory, or (name, options); ``""`` for none.
        act: activation by its name in MONAI's ``Act`` factory, or (name, options), or ``maxout`` or ``maxout_relu``.
    """

    spatial_dims: int
    norm: LayerName = "batch"
    act: LayerName = "relu"

    @property
    def conv_type(self) -> type[nn.Conv2d | nn.Conv3d]:
        """The class of its convolutions."""
        kind: type[nn.Conv2d | nn.Conv3d] = Conv[Conv.CONV, self.spatial_dims]
        return kind

    def conv(self, in_channels: int, out_channels: int, kernel_size: int | Sequence[int], **options: Any) -> nn.Module:
        """Convolution with padding that keeps the size at stride one and no bias, unless ``options`` say otherwise."""
        sizes = ensure_tuple_rep(kernel_size, self.spatial_dims)
        options = {"padding": tuple(size // 2 for size in sizes), "bias": False, **options}
        layer: nn.Module = self.conv_type(in_channels, out_channels, sizes, **options)
        return layer

    @property
    def norm_spec(self) -> str | tuple:
        """The normalisation as MONAI's functions take it."""
        return self.norm if isinstance(self.norm, str) else tuple(self.norm)

    def normalisation(self, channels: int) -> nn.Module:
        """Normalisation of ``channels`` channels."""
        layer: nn.Module = get_norm_layer(self.norm_spec, self.spatial_dims, channels)
        return layer

    def activation(self, channels: int, in_place: bool = True) -> nn.Module:
        """Activation of ``channels`` channels; with ``in_place`` it may overwrite its input, where it can."""
        return activation(self.act, channels, in_place)

    def max_pool(self, size: int = 3, stride: int = 2, padding: int = 1, ceil_mode: bool = False) -> nn.Module:
        """Max pooling, by default over three places with stride two; ``ceil_mode`` keeps a last incomplete window."""
        kind = Pool[Pool.MAX, self.spatial_dims]
        layer: nn.Module = kind(kernel_size=size, stride=stride, padding=padding, ceil_mode=ceil_mode)
        return layer

    def average_pool(self, size: int = 1) -> nn.Module:
        """Average pooling to ``size`` places in every axis."""
        layer: nn.Module = Pool[Pool.ADAPTIVEAVG, self.spatial_dims](size)
        return layer
