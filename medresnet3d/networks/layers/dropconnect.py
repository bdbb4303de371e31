"""DropConnect: weights, rather than units, are dropped at random, anew for every example.

Paper: L. Wan, M. Zeiler, S. Zhang, Y. LeCun, R. Fergus. Regularization of neural networks using DropConnect. ICML 2013.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from torch import nn

from medresnet3d.errors import ConfigError

INFERENCE = ("sampling", "quantiles")


def _check(keep: float, draws: int, inference: str) -> None:
    if not 0 < keep <= 1:
        raise ConfigError(f"DropConnect keeps a weight with probability {keep}; give more than 0 and at most 1.")
    if draws < 1:
        raise ConfigError(f"DropConnect takes {draws} draws at inference; give 1 or more.")
    if inference not in INFERENCE:
        raise ConfigError(f"DropConnect's inference is {inference!r}; use one of {', '.join(INFERENCE)}.")


def gaussian_draws(inference: str, draws: int, units: int, seed: int) -> torch.Tensor:
    """Standard normal numbers that stand for the randomness of the masks at inference.

    Args:
        inference: ``"sampling"``: drawn from a generator with ``seed``, another set for each unit; ``"quantiles"``: the
            middles of ``draws`` equally likely parts of the distribution, the same for each unit.
        draws: how many, Z.
        units: units of the layer, U.
        seed: seed of the draws.

    Returns:
        (Z, U), or (Z, 1) for quantiles; float32.
    """
    if inference == "quantiles":
        middle = (torch.arange(draws, dtype=torch.float64, device="cpu") + 0.5) / draws
        return torch.special.ndtri(middle).float()[:, None]
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(draws, units, generator=generator, device="cpu")


class DropConnectLinear(nn.Linear):
    r"""A linear layer of which each example sees another random part of the weights.

    In training :math:`u = (M \circ W) v + m \circ b` with independent :math:`M_{ij}, m_i \sim \text{Bernoulli}(p)`; p
    is the probability of *keeping* a weight, and nothing is scaled up. In evaluation the masks are replaced by a
    Gaussian with their two moments,

    .. math:: u \sim N\left(p (W v + b),\; p (1 - p) \left((W \circ W)(v \circ v) + b \circ b\right)\right),

    of which Z values go through the activation and are averaged. Without an activation the average is the mean, which
    is taken directly.

    Args:
        in_features: features in.
        out_features: features out.
        keep: p.
        activation: what follows; it belongs to the layer, since at inference it stands inside of the average.
        draws: Z.
        inference: see :func:`gaussian_draws`; both are the same at every call, the quantiles without any chance.
        seed: seed of the draws.
        bias: whether there is a bias.

    Shapes: (B, in_features) to (B, out_features).

    Raises:
        ConfigError: for a probability outside of (0, 1], less than one draw or an unknown way of inference.
    """

    if TYPE_CHECKING:  # TorchScript cannot read annotations that are text
        noise: torch.Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        keep: float = 0.5,
        activation: nn.Module | None = None,
        draws: int = 1000,
        inference: str = "sampling",
        seed: int = 0,
        bias: bool = True,
    ) -> None:
        _check(keep, draws, inference)
        super().__init__(in_features, out_features, bias)
        self.keep = float(keep)
        self.is_linear = activation is None
        self.activation = nn.Identity() if activation is None else activation
        self.register_buffer("noise", gaussian_draws(inference, draws, out_features, seed), persistent=False)

    def masked(self, x: torch.Tensor) -> torch.Tensor:
        """Pre-activations (B, out_features) under new masks, one for each example."""
        mask = torch.rand(x.shape[0], self.out_features, self.in_features, device=x.device) < self.keep
        u = torch.matmul(self.weight * mask, x.unsqueeze(2)).squeeze(2)
        bias = self.bias
        if bias is not None:
            u = u + bias * (torch.rand(u.shape, device=x.device) < self.keep)
        return u

    def moments(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the pre-activations over the masks, each (B, out_features)."""
        bias = self.bias
        squared = None if bias is None else bias.square()
        spread = self.keep * (1.0 - self.keep) * F.linear(x.square(), self.weight.square(), squared)
        return self.keep * F.linear(x, self.weight, bias), spread.clamp_min(0.0).sqrt()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Activations."""
        if self.training:
            return self.activation(self.masked(x))
        mean, deviation = self.moments(x)
        if self.is_linear:
            return mean
        return self.activation(mean + deviation * self.noise.unsqueeze(1)).mean(0)

    def extra_repr(self) -> str:
        """The linear layer's own text and the probability."""
        return f"{super().extra_repr()}, keep={self.keep:g}"


class DropConnectHead(DropConnectLinear):
    r"""The last layer of a classifier with DropConnect.

    Its activation is the softmax that follows: in evaluation the logits are :math:`\ln E[\text{softmax}(u)]` under the
    Gaussian, so that their softmax is the expected probability. With one class (a regression) they are the mean.

    Args:
        in_features: features in.
        out_features: number of classes.
        keep: probability of keeping a weight.
        draws: Gaussian draws of the average.
        seed: seed of the draws.

    Shapes: (B, in_features) to (B, out_features).
    """

    def __init__(
        self, in_features: int, out_features: int, keep: float = 0.5, draws: int = 1000, seed: int = 0
    ) -> None:
        super().__init__(in_features, out_features, keep, draws=draws, seed=seed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        if self.training:
            return self.masked(x)
        mean, deviation = self.moments(x)
        if self.out_features == 1:
            return mean
        chances = torch.softmax((mean + deviation * self.noise.unsqueeze(1)).float(), 2)
        return chances.mean(0).clamp_min(1e-30).log()


class DropConnectConv(nn.Module):
    """A convolution with DropConnect on its kernels: every example has its own random part of them.

    The mask is the same at all places of an image, since the weights are. Inference is that of
    :class:`DropConnectLinear`, with quantiles.

    Args:
        spatial_dims: 1, 2 or 3.
        in_channels: channels in.
        out_channels: channels out.
        kernel_size: edge of the kernel.
        keep: probability of keeping a weight.
        activation: what follows; see :class:`DropConnectLinear`.
        draws: quantiles of the Gaussian at inference.
        options: further arguments of torch's convolution (no groups, padding in numbers).

    Shapes: (B, in_channels, ...) to (B, out_channels, ...).

    Raises:
        ConfigError: as :class:`DropConnectLinear`.
    """

    if TYPE_CHECKING:  # TorchScript cannot read annotations that are text
        noise: torch.Tensor

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        keep: float = 0.5,
        activation: nn.Module | None = None,
        draws: int = 16,
        **options: Any,
    ) -> None:
        super().__init__()
        _check(keep, draws, "quantiles")
        self.keep, self.is_linear = float(keep), activation is None
        self.activation = nn.Identity() if activation is None else activation
        self.conv = Conv[Conv.CONV, spatial_dims](in_channels, out_channels, kernel_size, **options)
        if self.conv.groups != 1 or self.conv.padding_mode != "zeros":
            raise ConfigError("A convolution with DropConnect has one group and pads with zeros; drop these options.")
        self.register_buffer("noise", gaussian_draws("quantiles", draws, 1, 0), persistent=False)

    def masked(self, x: torch.Tensor) -> torch.Tensor:
        """Pre-activations under new masks: one convolution with a group for each example."""
        batch, conv = x.shape[0], self.conv
        weight = conv.weight * (torch.rand(batch, *conv.weight.shape, device=x.device) < self.keep)
        bias = None
        if conv.bias is not None:
            bias = (conv.bias * (torch.rand(batch, conv.out_channels, device=x.device) < self.keep)).flatten()
        convolve = (F.conv1d, F.conv2d, F.conv3d)[x.dim() - 3]
        image = x.reshape(1, -1, *x.shape[2:])
        result = convolve(image, weight.flatten(0, 1), bias, conv.stride, conv.padding, conv.dilation, batch)
        return result.reshape(batch, conv.out_channels, *result.shape[2:])

    def moments(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the pre-activations over the masks."""
        conv = self.conv
        squared = None if conv.bias is None else conv.bias.square()
        spread = conv._conv_forward(x.square(), conv.weight.square(), squared) * (self.keep * (1.0 - self.keep))
        return self.keep * conv(x), spread.clamp_min(0.0).sqrt()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Activations."""
        if self.training:
            return self.activation(self.masked(x))
        mean, deviation = self.moments(x)
        if self.is_linear:
            return mean
        total = torch.zeros_like(mean)
        for value in self.noise.flatten():
            total = total + self.activation(mean + deviation * value)
        return total / self.noise.numel()
