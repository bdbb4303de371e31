"""Noisy softplus: the rate of a spiking neuron as a function of the mean and the noise of its input current.

Papers: Q. Liu, S. Furber. Noisy softplus: a biology inspired activation function. ICONIP 2016. Q. Liu, Y. Chen,
S. Furber. Noisy softplus: an activation function that enables SNNs to be trained as ANNs. arXiv:1706.03609 (2017).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from torch import nn

from medresnet3d.errors import ConfigError

MIN_NOISE = 1e-6
"""Below this product of k and sigma the function is computed as its limit, ReLU."""


def noisy_softplus(x: torch.Tensor, sigma: torch.Tensor, k: float = 0.19, min_noise: float = MIN_NOISE) -> torch.Tensor:
    r"""Noisy softplus of a mean and a noise level, both tensors.

    .. math:: y = k \sigma \ln\left(1 + e^{x / (k \sigma)}\right)

    Nothing is sampled. The limit for :math:`\sigma \to 0` is ReLU, the value at x = 0 is :math:`k \sigma \ln 2`.

    Args:
        x: mean of the net input.
        sigma: noise level, not negative, of a shape that broadcasts with ``x``.
        k: how far the noise smooths the threshold; 0.19 and 0.35 are the 2017 fits for synaptic time constants of 1 and
            10 ms, as quoted by a public port.
        min_noise: product of ``k`` and ``sigma`` below which the limit, ReLU, is computed.
    """
    scale = k * sigma
    safe = scale.clamp_min(min_noise)
    return torch.where(scale < min_noise, F.relu(x), safe * F.softplus(x / safe))


def _check(k: float, sigma: float) -> None:
    if k <= 0 or sigma < 0:
        raise ConfigError(f"Noisy softplus has k = {k} and sigma = {sigma}; give k > 0 and sigma >= 0.")


class NoisySoftplus(nn.Module):
    """Noisy softplus with the same noise level everywhere (see :func:`noisy_softplus`).

    Args:
        k: see :func:`noisy_softplus`.
        sigma: noise level; 0 makes it ReLU. The default is that of a public port, not a value of the paper.

    Shapes: any; the output has the shape and dtype of the input.

    Raises:
        ConfigError: unless k > 0 and sigma >= 0.
    """

    def __init__(self, k: float = 0.19, sigma: float = 1.0) -> None:
        super().__init__()
        _check(k, sigma)
        self.k, self.sigma = float(k), float(sigma)
        self.limit = k * sigma < MIN_NOISE

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the function."""
        if self.limit:
            return F.relu(x)
        return F.softplus(x, beta=1.0 / (self.k * self.sigma))

    def extra_repr(self) -> str:
        """The constants, as ``print`` shows them."""
        return f"k={self.k:g}, sigma={self.sigma:g}"


class _NoisySoftplusLayer(nn.Module):
    """What :class:`NSPLinear` and :class:`NSPConv` share: mean and noise of the current from one set of weights."""

    def __init__(self, synapses: nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d, k: float, tau: float, scale: float):
        super().__init__()
        _check(k, 0.0)
        if tau <= 0 or scale <= 0:
            raise ConfigError(f"A noisy softplus layer has tau = {tau} and scale = {scale}; both must be positive.")
        self.synapses = synapses
        self.k, self.tau, self.scale = float(k), float(tau), float(scale)

    def current(self, rates: torch.Tensor) -> torch.Tensor:
        """Mean synaptic current for the rates of the layer before."""
        return self.tau * self.synapses(rates)

    def _noise(self, variance: torch.Tensor) -> torch.Tensor:
        return (self.tau * variance).clamp_min(1e-12).sqrt()

    def extra_repr(self) -> str:
        """The constants, as ``print`` shows them."""
        return f"k={self.k:g}, tau={self.tau:g}, scale={self.scale:g}"


class NSPLinear(_NoisySoftplusLayer):
    r"""A linear layer of spiking neurons, as a differentiable function from rates to rates.

    Poisson spikes with rates :math:`a_i \ge 0` through synapses :math:`w` with time constant :math:`\tau` give a
    current with

    .. math:: x_j = \tau \sum_i w_{ji} a_i, \qquad \sigma_j^2 = \tau \sum_i \tfrac{1}{2} w_{ji}^2 a_i, \qquad
              y_j = s \, k \sigma_j \ln\left(1 + e^{x_j / (k \sigma_j)}\right)

    so mean and noise come from the same weights, and the noise passes from layer to layer with the rates. With
    ``tau`` in seconds, rates in Hz and ``scale`` in Hz per unit of current the weights serve a spiking network
    unchanged (:mod:`medresnet3d.networks.layers.spiking`); with ``tau = scale = 1`` it is an ordinary layer. There is
    no bias, since a neuron has none.

    Args:
        in_features: neurons before.
        out_features: neurons of this layer.
        k: see :func:`noisy_softplus`.
        tau: synaptic time constant.
        scale: rate per unit of current, s.

    Shapes: (B, in_features) to (B, out_features).

    Raises:
        ConfigError: unless k, tau and scale are positive.
    """

    def __init__(
        self, in_features: int, out_features: int, k: float = 0.19, tau: float = 1.0, scale: float = 1.0
    ) -> None:
        super().__init__(nn.Linear(in_features, out_features, bias=False), k, tau, scale)

    def forward(self, rates: torch.Tensor) -> torch.Tensor:
        """Rates of this layer for the rates of the layer before."""
        variance = F.linear(rates, 0.5 * self.synapses.weight.square())
        return self.scale * noisy_softplus(self.current(rates), self._noise(variance), self.k)


class NSPConv(_NoisySoftplusLayer):
    """A convolution of spiking neurons; see :class:`NSPLinear`.

    Args:
        spatial_dims: 1, 2 or 3.
        in_channels: channels before.
        out_channels: channels of this layer.
        kernel_size: edge of the kernel.
        stride: stride in every axis.
        padding: zeros at each end of every axis; by default so many that stride one keeps the size.
        k: see :func:`noisy_softplus`.
        tau: synaptic time constant.
        scale: rate per unit of current.

    Shapes: (B, in_channels, ...) to (B, out_channels, ...).

    Raises:
        ConfigError: unless k, tau and scale are positive.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int | None = None,
        k: float = 0.19,
        tau: float = 1.0,
        scale: float = 1.0,
    ) -> None:
        padding = kernel_size // 2 if padding is None else padding
        conv = Conv[Conv.CONV, spatial_dims]
        super().__init__(conv(in_channels, out_channels, kernel_size, stride, padding, bias=False), k, tau, scale)

    def forward(self, rates: torch.Tensor) -> torch.Tensor:
        """Rates of this layer for the rates of the layer before."""
        variance = self.synapses._conv_forward(rates, 0.5 * self.synapses.weight.square(), None)  # type: ignore[operator]
        return self.scale * noisy_softplus(self.current(rates), self._noise(variance), self.k)
