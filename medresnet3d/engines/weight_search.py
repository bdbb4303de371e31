r"""All weights of a small network by a population method, as in a CNN that an improved whale algorithm optimises.

Paper: N. Zhang et al. (2020), early detection of skin cancer by a convolutional network that is optimised by an
improved whale optimisation algorithm. Whether the weights or the layers are what is optimised there, and what
"improved" means, is not known to us; here it is the weights, and the method is
:class:`~medresnet3d.optimizers.swarm.ImprovedWhale`. Numbers such as ``filters`` are searched from outside, by
``medresnet3d search --method improved_whale``.

A position x in :math:`[-1, 1]^d` stands for the weights :math:`w = w_0 + r\,\sigma \circ x`: :math:`w_0` is the network
that the search starts from, :math:`\sigma` the standard deviation of He et al. (2015) of each layer, r the reach. The
box is symmetric about the start, where whales tend to, and equally wide in every layer's own unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from medresnet3d.engines.kernel_search import mini_set
from medresnet3d.engines.staged import FitStage, Stage
from medresnet3d.engines.swarm_run import run_swarm
from medresnet3d.errors import ConfigError
from medresnet3d.names import require_name
from medresnet3d.optimizers.swarm import METHODS, Swarm

TARGETS = ("weights", "hyperparameters")
MAX_DIMS = 10_000
OTHER_DEVIATION = 0.1  # of parameters that belong to no convolution or linear layer, such as those of norms
FITNESSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": F.cross_entropy,
    "mean_square": lambda logits, labels: F.mse_loss(
        logits.softmax(1), F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    ),
}


class WeightCode:
    """The weights of a network as positions of a swarm, and back.

    Args:
        network: its weights now are the origin; those that are frozen are left out.
        reach: see the module.

    Raises:
        ConfigError: if there are no or too many weights, or the reach is not positive.
    """

    def __init__(self, network: nn.Module, reach: float = 2.0) -> None:
        if not reach > 0:
            raise ConfigError(f"reach is {reach}; it must be larger than 0.")
        self.parameters: list[nn.Parameter] = []
        scales = []
        for module in network.modules():
            own = [each for each in module.parameters(recurse=False) if each.requires_grad]
            self.parameters += own
            scales += [np.full(each.numel(), reach * _deviation(module)) for each in own]
        dims = sum(each.numel() for each in self.parameters)
        if not 0 < dims <= MAX_DIMS:
            raise ConfigError(
                f"{type(network).__name__} has {dims:,} weights to search; a swarm takes 1 to {MAX_DIMS:,}: change "
                "`filters`, `kernel_size` or freeze_until."
            )
        self.scale = np.concatenate(scales)
        self.start = self._read()

    @property
    def dims(self) -> int:
        """Number of weights."""
        return len(self.start)

    def encode(self) -> NDArray[np.float64]:
        """The position (dims,) of the weights that the network has now."""
        return np.asarray((self._read() - self.start) / self.scale)

    def decode(self, position: NDArray[np.float64]) -> None:
        """Give the network the weights of a position (dims,)."""
        vector = torch.from_numpy(self.start + self.scale * position).to(self.parameters[0])
        with torch.no_grad():
            nn.utils.vector_to_parameters(vector, self.parameters)

    def _read(self) -> NDArray[np.float64]:
        every = [each.detach().reshape(-1) for each in self.parameters]  # some lie channels_last
        return torch.cat(every).double().cpu().numpy()


def _deviation(module: nn.Module) -> float:
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim < 2:
        return OTHER_DEVIATION
    return math.sqrt(2 / weight[0].numel())


class WeightSearch:
    """Search all weights by a population method and leave the best ones in the network; for ``FitStage``.

    After each iteration the swarm is kept, so that a search that was broken off goes on; see
    :func:`medresnet3d.engines.swarm_run.run_swarm`.

    Args:
        dataset: training cases with class numbers as ``label``.
        transform: without randomness, in place of that of ``dataset``.
        method: a key of :data:`medresnet3d.optimizers.swarm.METHODS`.
        fitness: ``cross_entropy``, or ``mean_square`` between probabilities and classes.
        mini_set: number of cases to measure with, as many of each class as there are.
        population: number of agents.
        iterations: number of iterations.
        reach: see :class:`WeightCode`.
        seed: of the swarm and of the choice of cases.
        options: further arguments of the method, ``{"step": 0.05}`` for instance.

    Raises:
        ConfigError: for an unknown method or fitness, or if a number makes no sense.
    """

    def __init__(
        self,
        dataset: Any,
        transform: Callable[[Any], Any] | None = None,
        method: str = "improved_whale",
        fitness: str = "cross_entropy",
        mini_set: int = 100,
        population: int = 30,
        iterations: int = 50,
        reach: float = 2.0,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if mini_set < 2:
            raise ConfigError(f"mini_set is {mini_set}; it must be 2 or more.")
        self.dataset, self.transform, self.mini_set = dataset, transform, mini_set
        self.method = require_name("Method", method, METHODS)
        self.fitness = FITNESSES[require_name("Fitness", fitness, FITNESSES)]
        self.fitness_name = fitness
        self.population, self.iterations, self.reach, self.seed = population, iterations, reach, seed
        self.options = dict(options or {})

    def __call__(self, network: nn.Module, folder: Path) -> None:
        """Search.

        Args:
            network: in eval mode; changed.
            folder: where the swarm is kept.

        Raises:
            ConfigError: see :class:`WeightCode`.
            DataError: if a case has no class, or no position could be measured.
        """
        images, labels = mini_set(self.dataset, self.transform, self.mini_set, self.seed)
        device = next(network.parameters()).device
        images, labels = images.to(device), labels.to(device)
        code = WeightCode(network, self.reach)

        def measure(position: NDArray[np.float64]) -> float:
            code.decode(position)
            with torch.no_grad():
                return float(self.fitness(network(images), labels))

        best = run_swarm(self._swarm(code.dims), measure, folder, "weights", self.fitness_name.replace("_", " "))
        code.decode(best.position)

    def _swarm(self, dims: int) -> Swarm:
        return METHODS[self.method]([(-1.0, 1.0)] * dims, self.population, self.iterations, self.seed, **self.options)


def weight_stages(target: str, search: WeightSearch) -> list[Stage]:
    """The stages in front of the training.

    Args:
        target: ``weights``: search them; ``hyperparameters``: nothing, since numbers such as ``filters`` are searched
            from outside, by a training for each choice.
        search: the search.

    Raises:
        ConfigError: if there is no such target.
    """
    require_name("Target", target, TARGETS)
    return [FitStage("weights", search)] if target == "weights" else []
