"""How the tensors of a published 2D network become those of a network of another shape.

Inflation: J. Carreira, A. Zisserman. Quo vadis, action recognition? A new model and the Kinetics dataset. CVPR 2017;
kernels in the centre: the same idea as in R. Girdhar et al. Detect-and-track. CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from medresnet3d.names import require_name

INFLATIONS = ("mean", "centre")


def inflate(weight: Tensor, depth: int, axis: int = -1, mode: str = "mean") -> Tensor:
    """Spread a 2D convolution kernel over a new axis, so that an image constant along it gives the same response.

    The default axis is the last, the through-plane direction k of an (i, j, k) volume, so that slices (i, j) play the
    part of the 2D images.

    Args:
        weight: kernel of shape (out, in, h, w).
        depth: kernel size along the new axis.
        axis: where the new axis stands in the result.
        mode: ``"mean"``: the kernel is repeated ``depth`` times and divided by ``depth``. ``"centre"``: it stands at
            the middle place and zeros elsewhere, so that each slice is seen alone at first; then the border of the new
            axis, which is padded with zeros, changes nothing either.

    Raises:
        ConfigError: for another mode.
    """
    require_name("Inflation", mode, INFLATIONS)
    expanded = weight.unsqueeze(axis)
    if mode == "mean":
        return expanded.repeat_interleave(depth, dim=axis) / depth
    inflated = torch.zeros_like(expanded).repeat_interleave(depth, dim=axis)
    inflated.select(axis, depth // 2).copy_(weight)
    return inflated


def adapt_channels(weight: Tensor, channels: int) -> Tensor:
    """First layer for images of another number of channels.

    The kernels are summed over the channels they were trained for (red, green and blue) and the sum is shared equally:
    for ``channels`` copies of a grey image that is what its three-fold copy would give.

    Args:
        weight: kernel of shape (out, in, ...).
        channels: channels of the new images.
    """
    return weight.sum(1, keepdim=True).repeat_interleave(channels, dim=1) / channels


def fit_tensor(
    name: str, tensor: Tensor, shape: torch.Size, first: str, inflation: str = "mean", axis: int = -1
) -> Tensor | None:
    """``tensor`` brought to ``shape``, or ``None`` where no rule applies.

    Args:
        name: of the tensor.
        tensor: as published.
        shape: what the network has.
        first: name of the first convolution's kernel, the only one whose channels in may differ.
        inflation: see :func:`inflate`.
        axis: see :func:`inflate`.
    """
    if name == first and tensor.ndim >= 4 and tensor.shape[1] != shape[1]:
        tensor = adapt_channels(tensor, shape[1])
    if tensor.ndim == 4 and len(shape) == 5:
        tensor = inflate(tensor, shape[axis], axis, inflation)
    elif tensor.ndim == 2 and len(shape) == 2 and tensor.shape[0] == shape[0] and tensor.shape[1] % shape[1] == 0:
        # a hidden layer after a smaller pooled map: exact where the map is constant
        tensor = tensor.reshape(shape[0], shape[1], -1).sum(-1)
    return tensor if tensor.shape == shape else None


def first_kernel(state: Mapping[str, Tensor]) -> str:
    """Name of the first convolution's kernel in a state dict; empty if it has no convolution."""
    return next((name for name, tensor in state.items() if tensor.ndim >= 4), "")
