"""SE-attention: squeeze and excitation whose squeeze has two branches, the mean and the maximum of each channel.

Paper: J. Deng, Y. Ma, D. Li, J. Zhao, Y. Liu, H. Zhang. Classification of breast density categories based on
SE-Attention neural networks. Computer Methods and Programs in Biomedicine 193 (2020) 105489, known to us from its
abstract; the second branch is our reading of "improved". Squeeze and excitation: J. Hu, L. Shen, G. Sun. CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

MIN_HIDDEN = 4


class SEAttention(nn.Module):
    r"""Weigh each channel by a gate between 0 and 1 that the whole image decides.

    .. math:: g = \sigma\bigl(W_2\,\phi(W_1\,\mathrm{mean}(x)) + W_2\,\phi(W_1\,\mathrm{max}(x))\bigr), \qquad y = g x

    with one pair of layers for both squeezes, so that there are as many parameters as in squeeze and excitation:
    2 C^2 / r + C / r + C for C channels and reduction r. Gates begin near 0.88, so that a pretrained network begins
    nearly as it is.

    Args:
        channels: C.
        reduction: r; there are four hidden features at least.

    Shapes: (B, C, ...) to the same.

    Attributes:
        is_open: whether all gates are held at 1, see :func:`opened`.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.is_open = False
        hidden = max(MIN_HIDDEN, channels // reduction)
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)
        nn.init.ones_(self.excite.bias)  # it is added once for each branch: sigmoid(2) = 0.88

    def gates(self, x: Tensor) -> Tensor:
        """Gates (B, C)."""
        places = x.flatten(2)
        branches = torch.stack([places.mean(2), places.amax(2)])
        return torch.sigmoid(self.excite(torch.relu(self.squeeze(branches))).sum(0))

    def forward(self, x: Tensor) -> Tensor:
        """The weighted channels."""
        if self.is_open:
            return x
        gates = self.gates(x)
        return x * gates.reshape(gates.shape + (1,) * (x.ndim - 2))


class Attended(nn.Module):
    """A block with attention on its output; the names of the two are ``block`` and ``attention``.

    Args:
        block: any module that gives maps (B, C, ...).
        attention: of C channels.
    """

    def __init__(self, block: nn.Module, attention: SEAttention) -> None:
        super().__init__()
        self.block = block
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        """Run both."""
        return self.attention(self.block(x))


@contextmanager
def opened(network: nn.Module) -> Iterator[None]:
    """Hold all gates of a network at 1 inside the block, which gives the network without attention."""
    layers = [module for module in network.modules() if isinstance(module, SEAttention)]
    for layer in layers:
        layer.is_open = True
    try:
        yield
    finally:
        for layer in layers:
            layer.is_open = False
