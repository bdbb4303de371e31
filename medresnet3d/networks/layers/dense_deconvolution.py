"""Dense deconvolution: upsampling by two whose interleaved maps are made one after another, each from those before.

Paper: H. Xie et al., deeply supervised full convolutional network for HEp-2 specimen images (2019), known to us from a
survey only: dense deconvolution layers in place of ordinary ones. That each map sees the ones before it is our reading,
after H. Gao et al. Pixel deconvolutional networks (arXiv:1705.06820), which this follows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from medresnet3d.networks.layers.choice import LayerChoice

START_SHARE = 0.5
"""Share of the mean of the earlier maps in each map at the start."""


class DenseDeconvolution(nn.Module):
    r"""Upsampling by two in every axis: :math:`2^D` maps of the input's size, interleaved.

    .. math:: M_1 = W_1 * x, \qquad M_j = W_j * [x, M_1, \ldots, M_{j-1}]

    Map j holds the places whose offsets in the 2 x 2 (x 2) cell are the binary digits of j - 1, the lowest of the last
    axis. A transposed convolution makes neighbouring places from separate weights, so that a constant input gives a
    checkerboard; here each place knows its neighbours, and at the start all maps of a constant input are equal: the
    weights for x are the same, and each map is half x and half the mean of the maps before it.

    Args:
        layers: what it is made of; a normalisation and an activation follow the interleaved maps.
        in_channels: channels in.
        channels: channels out.

    Shapes: (B, in_channels, ...) to (B, channels, ...) with every axis twice as long.

    Example:
        >>> DenseDeconvolution(LayerChoice(2), 8, 4)(torch.zeros(1, 8, 5, 6)).shape
        torch.Size([1, 4, 10, 12])
    """

    if TYPE_CHECKING:  # TorchScript cannot read annotations that are strings
        order: list[int]

    def __init__(self, layers: LayerChoice, in_channels: int, channels: int) -> None:
        super().__init__()
        dims = layers.spatial_dims
        count = 2**dims
        self.maps = nn.ModuleList(
            layers.conv(in_channels + number * channels, channels, 3, bias=not layers.norm) for number in range(count)
        )
        # (B, C, 2, ..., 2, n_1, ..., n_D) to (B, C, n_1, 2, ..., n_D, 2)
        self.order = [0, 1, *(axis for number in range(dims) for axis in (2 + dims + number, 2 + number))]
        self.norm = layers.normalisation(channels)
        self.act = layers.activation(channels)
        self.start(in_channels, channels)

    @torch.jit.unused
    @torch.no_grad()
    def start(self, in_channels: int, channels: int) -> None:
        """Let all maps of a constant input be equal."""
        layers = [layer for layer in self.maps if isinstance(layer, nn.modules.conv._ConvNd)]
        first = layers[0].weight
        nn.init.kaiming_normal_(first, nonlinearity="relu")
        middle = first[0, 0].numel() // 2
        for number, layer in enumerate(layers):
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            if number:
                layer.weight.zero_()
                layer.weight[:, :in_channels] = (1 - START_SHARE) * first
                before = layer.weight.flatten(2)[:, in_channels:, middle]  # a view: the kernel has a middle
                before += START_SHARE / number * torch.eye(channels).repeat(1, number)

    def interleaved(self, x: Tensor) -> Tensor:
        """The maps, interleaved, before normalisation and activation."""
        found = x
        maps: list[Tensor] = []
        for layer in self.maps:
            one = layer(found)
            maps.append(one)
            found = torch.cat([found, one], dim=1)
        cells = torch.stack(maps, dim=2)
        sizes = list(maps[0].shape[2:])
        before = list(maps[0].shape[:2])  # TorchScript adds lists, it does not unpack them
        cells = cells.reshape(before + [2] * len(sizes) + sizes).permute(self.order)
        return cells.reshape(before + [2 * size for size in sizes])

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.act(self.norm(self.interleaved(x)))
