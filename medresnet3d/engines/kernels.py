"""The kernels of a network's convolutions as one vector: read, written back exactly, and drawn at random."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medresnet3d.errors import ConfigError
from medresnet3d.names import require_name

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
DISTRIBUTIONS = ("random", "gaussian")


def kernels_of(network: nn.Module) -> list[Tensor]:
    """The weights of all convolutions that are not frozen, in the order of the network's modules.

    Raises:
        ConfigError: if there is none.
    """
    found = [module.weight for module in network.modules() if isinstance(module, CONVOLUTIONS)]
    free = [weight for weight in found if weight.requires_grad]
    if not free:
        what = "all of its convolutions are frozen" if found else "it has no convolution"
        raise ConfigError(f"{type(network).__name__} has no kernels to start with: {what}; set freeze_until=none.")
    return free


def read_kernels(network: nn.Module) -> NDArray[np.float64]:
    """All kernels, one after the other, as one vector (dims,)."""
    return np.concatenate([weight.detach().cpu().double().numpy().ravel() for weight in kernels_of(network)])


def write_kernels(network: nn.Module, vector: NDArray[np.float64]) -> None:
    """Make the kernels those of a vector; each weight is the vector's value in the weight's own number format.

    Args:
        network: changed in place.
        vector: (dims,), in the order of :func:`read_kernels`.

    Raises:
        ConfigError: if the vector has another length.
    """
    kernels = kernels_of(network)
    numbers = [weight.numel() for weight in kernels]
    if vector.shape != (sum(numbers),):
        raise ConfigError(f"{vector.shape} values were given for the {sum(numbers)} weights of the kernels.")
    with torch.no_grad():
        for weight, values in zip(kernels, np.split(vector, np.cumsum(numbers)[:-1]), strict=True):
            weight.copy_(torch.from_numpy(values).view(weight.shape))


def spread_of_kernels(network: nn.Module) -> NDArray[np.float64]:
    """The standard deviation of its layer for each weight of the vector, (dims,)."""
    return np.concatenate([np.full(weight.numel(), float(weight.detach().std())) for weight in kernels_of(network)])


def draw_kernels(network: nn.Module, distribution: str, generator: torch.Generator) -> None:
    r"""Draw all kernels anew, with the standard deviation :math:`\sqrt{2 / n}` of He et al. (2015).

    n is the number of weights that one place of the output sees.

    Args:
        network: changed in place.
        distribution: ``random``: uniform; ``gaussian``: normal.
        generator: of the CPU.

    Raises:
        ConfigError: if there is no such distribution.
    """
    require_name("Distribution of kernels", distribution, DISTRIBUTIONS)
    with torch.no_grad():
        for weight in kernels_of(network):
            deviation = math.sqrt(2 / weight[0].numel())
            if distribution == "gaussian":
                drawn = torch.randn(weight.shape, generator=generator)
            else:
                drawn = (2 * torch.rand(weight.shape, generator=generator) - 1) * math.sqrt(3)
            weight.copy_(deviation * drawn)


class DrawKernels:
    """Draw all kernels anew, for ``FitStage``; see :func:`draw_kernels`.

    Args:
        distribution: ``random`` or ``gaussian``.
        seed: of the draw.
    """

    def __init__(self, distribution: str, seed: int = 0) -> None:
        self.distribution = distribution
        self.seed = seed

    def __call__(self, network: nn.Module, folder: Path) -> None:
        """Draw; nothing is kept in ``folder``."""
        draw_kernels(network, self.distribution, torch.Generator().manual_seed(self.seed))


def multiply_adds(network: nn.Module, image: Tensor) -> dict[str, int]:
    """Multiplications of the convolutions and linear layers for one image, by the layer's name.

    Args:
        network: in any mode, which is kept.
        image: (C, ...), on the network's device.
    """
    counts: dict[str, int] = {}

    def count(name: str, weight: Tensor, output: Tensor) -> None:
        counts[name] = counts.get(name, 0) + weight[0].numel() * output.numel()

    hooks = [
        module.register_forward_hook(lambda module, _, output, name=name: count(name, module.weight, output))
        for name, module in network.named_modules()
        if isinstance(module, (*CONVOLUTIONS, nn.Linear))
    ]
    mode = network.training
    try:
        with torch.no_grad():
            network.eval()(image[None])
    finally:
        network.train(mode)
        for hook in hooks:
            hook.remove()
    return counts
