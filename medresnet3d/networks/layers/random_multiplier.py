"""Several branches summed with random weights in training and with their expectation in evaluation.

Paper: Xu et al. (2019), multi-branch ResNet with a random multiplier. Only that much of it is known here: how the
multipliers are drawn is this project's choice (compare X. Gastaldi, Shake-shake regularization, arXiv:1705.07485).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from medresnet3d.errors import ConfigError

DISTRIBUTIONS = ("simplex", "softmax", "uniform")


class RandomMultiplier(nn.Module):
    r"""A weighted sum of branches, :math:`\sum_b m_b F_b(x)`, with new random multipliers for each sample.

    * ``"simplex"``: m is uniform on the simplex (all m at least 0, their sum 1);
    * ``"softmax"``: m is the softmax of independent standard normal numbers;
    * ``"uniform"``: each m is uniform between 0 and 1, independently.

    In evaluation m is its expectation: 1/B for the first two, 1/2 for the last. One branch has the multiplier 1.

    Args:
        branches: the functions F, which give the same shape.
        distribution: how the multipliers are drawn in training.

    Shapes: those of the branches, with the batch first.

    Raises:
        ConfigError: for no branch or an unknown distribution.
    """

    def __init__(self, branches: Iterable[nn.Module], distribution: str = "simplex") -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        if not self.branches:
            raise ConfigError("A random multiplier has no branches; give one or more.")
        if distribution not in DISTRIBUTIONS:
            raise ConfigError(
                f"A random multiplier's distribution is {distribution!r}; use one of {', '.join(DISTRIBUTIONS)}."
            )
        self.distribution = distribution
        self.count = len(self.branches)

    def multipliers(self, x: torch.Tensor) -> torch.Tensor:
        """Multipliers (B, branches) for a batch of the size, device and dtype of ``x``."""
        shape = [x.shape[0], self.count]
        if self.count == 1:
            return torch.ones(shape, dtype=x.dtype, device=x.device)
        if not self.training:
            mean = 0.5 if self.distribution == "uniform" else 1.0 / self.count
            return torch.full(shape, mean, dtype=x.dtype, device=x.device)
        drawn = torch.empty(shape, device=x.device)
        if self.distribution == "uniform":
            drawn = drawn.uniform_()
        elif self.distribution == "softmax":
            drawn = torch.softmax(drawn.normal_(), 1)
        else:
            drawn = drawn.exponential_()
            drawn = drawn / drawn.sum(1, keepdim=True)
        return drawn.to(x.dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The weighted sum of what the branches make of ``x``."""
        weights = self.multipliers(x)
        shape = [x.shape[0]] + [1] * (x.dim() - 1)
        total = torch.zeros(1, dtype=x.dtype, device=x.device)
        for index, branch in enumerate(self.branches):
            total = total + weights[:, index].reshape(shape) * branch(x)
        return total

    def extra_repr(self) -> str:
        """The distribution, as ``print`` shows it."""
        return f"distribution={self.distribution}"
