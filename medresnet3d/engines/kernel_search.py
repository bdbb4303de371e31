r"""Particle swarm optimisation of the kernels that a network's training starts from.

Paper: Liang et al. (2018), PSO-ConvK. The kernels of a convolutional network that was trained before are taken out of
it; a swarm moves through the space of their weights; its best position becomes the kernels, and the network is trained
on by gradient descent. Everything that is a number here (population, iterations, spread, what a position is worth) is
this package's: the paper's are not known to us.

A position is worth the cross-entropy of a fixed small set of training images after some steps of gradient descent on
the last layer alone. For these the features are computed once, so that a measurement costs hardly more than one pass of
the small set through the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch import Tensor, nn

from medresnet3d.data.dataset import SeededDataset
from medresnet3d.engines.kernels import DrawKernels, multiply_adds, read_kernels, spread_of_kernels, write_kernels
from medresnet3d.engines.staged import FitStage, Stage
from medresnet3d.engines.swarm_run import run_swarm
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.names import require_name
from medresnet3d.optimizers.swarm import PSO

PSO_KERNELS = "pso"
CHOICES = (PSO_KERNELS, "random", "gaussian")
PASSES_OF_A_STEP = 3
"""A step of gradient descent costs as much as three passes: one forward and, for input and weights, two backward."""


def fit_head(
    features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, steps: int, rate: float = 1.0
) -> tuple[Tensor, Tensor, float]:
    """Improve a last layer by gradient descent on the cross-entropy of all cases together.

    The length of a step is ``rate`` over the mean squared length of the features (with the 1 of the bias), which the
    curvature of the cross-entropy cannot exceed half of: with a rate up to 4 no features make it diverge.

    Args:
        features: (N, F).
        labels: class numbers (N,).
        weight: (K, F), where it starts.
        bias: (K,).
        steps: number of steps; 0 measures the layer as it is.
        rate: of the steps.

    Returns:
        weight, bias and the cross-entropy with them.
    """
    target = nn.functional.one_hot(labels, len(bias)).to(features)
    length = rate / (features.square().sum(1).mean() + 1)
    for _ in range(steps):
        error = ((features @ weight.T + bias).softmax(1) - target) / len(features)
        weight, bias = weight - length * error.T @ features, bias - length * error.sum(0)
    return weight, bias, float(nn.functional.cross_entropy(features @ weight.T + bias, labels))


class KernelSearch:
    """Search the kernels by a particle swarm and leave the best ones in the network; for ``FitStage``.

    Particle 0 is the network as it is; the others lie around it. The last layer becomes that which the best kernels
    were measured with. After each iteration the swarm is kept, so that a search that was broken off goes on. The course
    is in ``search.csv``: best and mean of each iteration.

    Args:
        dataset: training cases with class numbers as ``label``.
        transform: without randomness, in place of that of ``dataset``.
        mini_set: number of cases to measure with, as many of each class as there are.
        population: number of particles.
        iterations: number of iterations.
        fit_head_steps: see :func:`fit_head`, as for the next one.
        head_rate: of the steps on the last layer.
        spread: standard deviation of the other particles around the first, in standard deviations of each layer.
        reach: how far a weight may go from where it is, in the same unit.
        seed: of the swarm and of the choice of cases.

    Raises:
        ConfigError: if a number makes no sense.
    """

    def __init__(
        self,
        dataset: Any,
        transform: Callable[[Any], Any] | None = None,
        mini_set: int = 50,
        population: int = 20,
        iterations: int = 20,
        fit_head_steps: int = 10,
        head_rate: float = 1.0,
        spread: float = 0.1,
        reach: float = 1.0,
        seed: int = 0,
    ) -> None:
        for name, value, least in (("mini_set", mini_set, 2), ("fit_head_steps", fit_head_steps, 0)):
            if value < least:
                raise ConfigError(f"{name} is {value}; it must be {least} or more.")
        for name, number in (("spread", spread), ("reach", reach)):
            if not number > 0:
                raise ConfigError(f"{name} is {number}; it must be larger than 0.")
        self.dataset, self.transform, self.mini_set = dataset, transform, mini_set
        self.population, self.iterations = population, iterations
        self.fit_head_steps, self.head_rate = fit_head_steps, head_rate
        self.spread, self.reach, self.seed = spread, reach, seed

    def __call__(self, network: nn.Module, folder: Path) -> None:
        """Search.

        Args:
            network: in eval mode, with ``forward_features`` and a linear last layer ``classifier``; changed.
            folder: where the swarm is kept.

        Raises:
            ConfigError: if the network has no such parts.
            DataError: if a case has no class, or no position could be measured.
        """
        head = getattr(network, "classifier", None)
        if not isinstance(head, nn.Linear):
            raise ConfigError(f"{type(network).__name__} has no linear last layer; choose another architecture.")
        images, labels = mini_set(self.dataset, self.transform, self.mini_set, self.seed)
        device = next(network.parameters()).device
        images, labels = images.to(device), labels.to(device)
        swarm = self._swarm(network)
        best = run_swarm(
            swarm,
            lambda position: self._measure(network, position, images, labels)[2],
            folder,
            "kernels",
            "cross-entropy",
        )
        weight, bias, _ = self._measure(network, best.position, images, labels)
        with torch.no_grad():
            head.weight.copy_(weight)
            head.bias.copy_(bias)

    def _swarm(self, network: nn.Module) -> PSO:
        start, unit = read_kernels(network), spread_of_kernels(network)
        unit = np.maximum(unit, np.finfo(np.float32).tiny)
        box = np.stack([start - self.reach * unit, start + self.reach * unit], axis=1)
        around = np.random.default_rng((self.seed, 1)).normal(size=(self.population, start.size))
        around[0] = 0
        positions = start + self.spread * unit * around
        return PSO(box, self.population, self.iterations, self.seed, start=positions)

    @torch.no_grad()
    def _measure(
        self, network: Any, position: NDArray[np.float64], images: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor, float]:
        """Write a position into the network and give the last layer that fits it, and its loss."""
        write_kernels(network, position)
        head = network.classifier
        features = network.forward_features(images)
        return fit_head(features, labels, head.weight, head.bias, self.fit_head_steps, self.head_rate)


def mini_set(dataset: Any, transform: Callable[[Any], Any] | None, number: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A fixed choice of cases of a data set, from all classes in turn.

    Args:
        dataset: a :class:`medresnet3d.data.SeededDataset`.
        transform: in place of its own; ``None``: its own.
        number: how many, at most.
        seed: of the choice.

    Returns:
        images (N, C, ...) and class numbers (N,).

    Raises:
        DataError: if a case has no class.
    """
    if not all("label" in item for item in dataset.data):
        raise DataError("A training case has no class; the search for kernels needs the classes of all.")
    order = np.random.default_rng((seed, 2)).permutation(len(dataset.data))
    labels = np.asarray([int(dataset.data[index]["label"]) for index in order])
    turn = np.empty(len(order), dtype=int)
    for label in np.unique(labels):
        turn[labels == label] = np.arange((labels == label).sum())
    chosen = [dataset.data[index] for index in order[np.argsort(turn, kind="stable")][:number]]
    cases = SeededDataset(chosen, dataset.transform if transform is None else transform, cache="none")
    images = [cases[index]["image"] for index in range(len(cases))]
    plain = [each.as_tensor() if isinstance(each, MetaTensor) else each for each in images]
    return torch.stack(plain), torch.tensor([int(item["label"]) for item in chosen])


def kernel_stages(
    initial_kernels: str, source: Stage, search: KernelSearch, pretrained: Any = None, seed: int = 0
) -> list[Stage]:
    """The stages in front of a training that starts from chosen kernels.

    Args:
        initial_kernels: ``pso``: train the source network (unless it is loaded), then search; ``random`` or
            ``gaussian``: draw them.
        source: the stage that trains the source network.
        search: the search.
        pretrained: where the source network comes from, if it is loaded.
        seed: of kernels that are drawn.

    Raises:
        ConfigError: if there is no such choice.
    """
    require_name("Choice of initial_kernels", initial_kernels, CHOICES)
    if initial_kernels != PSO_KERNELS:
        return [FitStage("kernels", DrawKernels(initial_kernels, seed))]
    return [*([source] if pretrained is None else []), FitStage("kernels", search)]


def kernel_budget(
    network: nn.Module,
    dataset: Any,
    dataloader: Any,
    initial_kernels: str,
    source_epochs: int,
    search: KernelSearch,
    steps: int,
    pretrained: Any = None,
    equal_budget: bool = True,
) -> dict[str, int]:
    """What source network and search cost in steps of gradient descent, so that other kernels get as many.

    A measurement of a particle is one forward pass of the mini-set, a step on the last layer three passes of that layer
    alone; three passes of a batch are a step. Passes are weighed by the multiplications of the layers.

    Args:
        network: the network.
        dataset: the training cases.
        dataloader: their batches.
        initial_kernels: the choice.
        source_epochs: epochs of the source network.
        search: the search.
        steps: of the training from the searched kernels.
        pretrained: where the source network comes from; one that is loaded costs nothing.
        equal_budget: give ``random`` and ``gaussian`` what ``pso`` spends.

    Returns:
        ``source_steps``, ``kernel_evaluations``, ``search_in_steps``: what this choice spends before its own training,
        ``training_steps``: how long that is; and ``steps_in_all``.
    """
    image = dataset[0]["image"]
    plain = image.as_tensor() if isinstance(image, MetaTensor) else image
    counts = multiply_adds(network, plain.to(next(network.parameters()).device))
    head = counts.get("classifier", 0) / sum(counts.values())
    evaluations, cases = search.population * search.iterations, min(search.mini_set, len(dataset))
    passes = evaluations * cases * (1 + PASSES_OF_A_STEP * search.fit_head_steps * head)
    batch = min(dataloader.batch_size, len(dataset))
    searched = math.ceil(passes / (PASSES_OF_A_STEP * batch))
    source = 0 if pretrained is not None else source_epochs * len(dataloader)
    spent = source + searched
    if initial_kernels == PSO_KERNELS:
        before, own = (source, evaluations, searched), steps
    else:
        before, own = (0, 0, 0), steps + (spent if equal_budget else 0)
    names = ("source_steps", "kernel_evaluations", "search_in_steps")
    in_all = before[0] + before[2] + own
    return {**dict(zip(names, before, strict=True)), "training_steps": own, "steps_in_all": in_all}
