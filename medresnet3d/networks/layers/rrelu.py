"""Randomised leaky ReLU as its paper defines it.

Paper: B. Xu, N. Wang, T. Chen, M. Li. Empirical evaluation of rectified activations in convolutional network.
arXiv:1505.00853 (2015).
"""

from __future__ import annotations

import torch
from torch import nn

from medresnet3d.errors import ConfigError


class PaperRReLU(nn.Module):
    r"""Randomised leaky ReLU: negative inputs are divided by a random number.

    .. math:: f(x) = x \text{ for } x \ge 0, \qquad f(x) = x / a \text{ for } x < 0,
              \qquad a \sim U(l, u) \text{ in training}, \quad a = (l + u) / 2 \text{ in evaluation}

    ``torch.nn.RReLU`` is another function: it draws the *slope* uniformly from [1/8, 1/3] and evaluates with the mean
    slope 0.2292, where the paper draws the *divisor* and evaluates with 1/5.5 = 0.1818.

    Args:
        lower: smallest divisor l.
        upper: largest divisor u.

    Shapes: any; the output has the shape and dtype of the input.

    Raises:
        ConfigError: unless 0 < lower <= upper.
    """

    def __init__(self, lower: float = 3.0, upper: float = 8.0) -> None:
        super().__init__()
        if not 0 < lower <= upper:
            raise ConfigError(f"The divisors of RReLU are {lower} to {upper}; give 0 < lower <= upper.")
        self.lower, self.upper = float(lower), float(upper)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the function; every element has its own divisor in training."""
        if self.training:
            return torch.where(x < 0, x / torch.empty_like(x).uniform_(self.lower, self.upper), x)
        return torch.where(x < 0, x / (0.5 * (self.lower + self.upper)), x)

    def extra_repr(self) -> str:
        """The two bounds, as ``print`` shows them."""
        return f"lower={self.lower:g}, upper={self.upper:g}"
