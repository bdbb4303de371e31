"""A network for images whose axes come in another order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from medresnet3d.errors import ConfigError

_CONVOLUTIONS = nn.modules.conv._ConvNd
_BY_AXIS = ("kernel_size", "stride", "padding", "dilation", "output_padding", "scale_factor")
_POOLS = (nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool2d, nn.AvgPool3d, nn.Upsample)


def reorder_axes(network: nn.Module, order: Sequence[int]) -> None:
    """Change ``network`` itself so that it computes the same for an image with its spatial axes in another order.

    Kernels, strides and the like of its convolutions, pooling and enlarging layers are permuted; what a forward pass
    does by itself along single axes is not, so the result has to be checked.

    Args:
        network: with 2D or 3D layers.
        order: which of the image's spatial axes comes first, second, ...

    Raises:
        ConfigError: if a layer has weights by position that are not known here, or pads with the image's own voxels.
    """
    if list(order) == sorted(order):
        return
    axes = [0, 1, *(axis + 2 for axis in order)]
    for name, module in network.named_modules():
        known = isinstance(module, _CONVOLUTIONS)
        if known and module.padding_mode != "zeros":
            raise ConfigError(f'"{name}" pads with the image\'s own voxels; its axes are not reordered.')
        if known or isinstance(module, _POOLS):
            _reorder_options(module, order)
        for parameter in module.parameters(recurse=False):
            if parameter.dim() != len(axes):
                continue
            if not known:
                raise ConfigError(f'"{name}" ({type(module).__name__}) has weights whose axes are not known.')
            parameter.data = parameter.data.permute(axes).contiguous()


def _reorder_options(module: nn.Module, order: Sequence[int]) -> None:
    for option in _BY_AXIS:
        value: Any = getattr(module, option, None)
        if isinstance(value, (tuple, list)) and len(value) == len(order):
            setattr(module, option, tuple(value[axis] for axis in order))
