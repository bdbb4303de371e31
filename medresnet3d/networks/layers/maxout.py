"""Maxout: the largest of several affine functions, dense and convolutional, and as a change to a whole network.

Papers: I. J. Goodfellow, D. Warde-Farley, M. Mirza, A. Courville, Y. Bengio. Maxout networks. ICML 2013.
Maxout followed by ReLU: J. Gan et al. (2019), as a double activation for facial beauty prediction.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from monai.networks.layers.factories import Conv
from torch import nn

from medresnet3d.errors import ConfigError

Affine = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d


class MaxPieces(nn.Module):
    """The largest of every ``pieces`` neighbouring channels: (B, C * pieces, ...) to (B, C, ...).

    Args:
        pieces: how many channels compete for one.
    """

    def __init__(self, pieces: int = 2) -> None:
        super().__init__()
        if pieces < 1:
            raise ConfigError(f"Maxout has {pieces} pieces; give 1 or more.")
        self.pieces = pieces

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Take the maximum."""
        return x.unflatten(1, (x.shape[1] // self.pieces, self.pieces)).amax(2)

    def extra_repr(self) -> str:
        """The number of pieces, as ``print`` shows it."""
        return f"pieces={self.pieces}"


class Maxout(nn.Sequential):
    r"""A dense maxout layer, :math:`h_i = \max_{j \le k} (w_{ij} \cdot x + b_{ij})`.

    With two pieces one of which is zero it is ReLU; two pieces make the absolute value exactly, and enough pieces any
    convex function.

    Args:
        in_features: features in.
        out_features: features out.
        pieces: affine functions per feature, k; there are k times the weights of a linear layer.
        bias: whether they have a bias.

    Shapes: (B, in_features) to (B, out_features).

    Raises:
        ConfigError: for less than one piece.
    """

    def __init__(self, in_features: int, out_features: int, pieces: int = 2, bias: bool = True) -> None:
        competing = MaxPieces(pieces)
        super().__init__(nn.Linear(in_features, out_features * pieces, bias), competing)


class MaxoutConv(nn.Sequential):
    """A convolution with ``pieces`` filters per output channel, of which each place takes the largest.

    Args:
        spatial_dims: 1, 2 or 3.
        in_channels: channels in.
        out_channels: channels out.
        kernel_size: edge of the kernel.
        pieces: filters per output channel.
        options: further arguments of torch's convolution.

    Shapes: (B, in_channels, ...) to (B, out_channels, ...).

    Raises:
        ConfigError: for less than one piece.
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, kernel_size: int, pieces: int = 2, **options: Any
    ) -> None:
        competing = MaxPieces(pieces)
        conv = Conv[Conv.CONV, spatial_dims]
        super().__init__(conv(in_channels, out_channels * pieces, kernel_size, **options), competing)


class DoubleActivation(MaxoutConv):
    """Maxout, then ReLU, as two activations after one convolution: ``relu(maxout(conv(x)))``.

    The arguments are those of :class:`MaxoutConv`. The order is that of the survey's account of Gan et al. (2019); the
    number of pieces is not known there, so the default, two, is this project's choice.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.append(nn.ReLU())


def widened(layer: Affine, pieces: int) -> nn.Sequential:
    """A maxout layer that stands in for ``layer``: ``pieces`` times its outputs, then their maximum.

    The weights are new: normal with variance 1/fan-in, with which the maximum of two pieces keeps the mean square of
    its input. The filters of a grouped convolution stay in their groups.
    """
    competing, bias = MaxPieces(pieces), layer.bias is not None
    wide: Any
    if isinstance(layer, nn.Linear):
        wide = nn.Linear(layer.in_features, layer.out_features * pieces, bias)
        inputs = layer.in_features
    else:
        names = ["stride", "padding", "dilation", "groups", "padding_mode"]
        names += ["output_padding"] if isinstance(layer, nn.modules.conv._ConvTransposeNd) else []
        options = {name: getattr(layer, name) for name in names}
        kind: Any = type(layer)
        wide = kind(layer.in_channels, layer.out_channels * pieces, layer.kernel_size, bias=bias, **options)
        inputs = layer.in_channels // layer.groups * layer.weight[0, 0].numel()
    nn.init.normal_(wide.weight, std=inputs**-0.5)
    if bias:
        nn.init.zeros_(wide.bias)
    return nn.Sequential(wide.to(layer.weight.device, layer.weight.dtype), competing)


def use_maxout(network: nn.Module, pieces: int = 2, linear: str = "") -> None:
    """Turn the convolutions and linear layers of ``network`` into maxout layers, in place.

    Inputs and outputs of every layer keep their number of channels, so norms, sums and concatenations fit as before,
    whatever the wiring. Where the network has activations of its own they stay; a network for plain maxout is built
    without any.

    Args:
        network: it is changed.
        pieces: affine functions per output.
        linear: regular expression; a layer whose name it matches (:func:`re.search`) stays as it is, such as a shortcut
            or the last layer.

    Raises:
        ConfigError: for less than one piece.
    """
    for name, layer in list(network.named_modules()):
        if name and isinstance(layer, Affine) and not (linear and re.search(linear, name)):
            parent, _, leaf = name.rpartition(".")
            setattr(network.get_submodule(parent), leaf, widened(layer, pieces))
