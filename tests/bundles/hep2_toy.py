"""Few HEp-2 phantoms a class and few steps: what transfer and cross connections are measured on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medresnet3d.data.phantoms.cells import I3A, ICPR2012
from medresnet3d.data.phantoms.hep2_patterns import hep2_cell
from medresnet3d.losses.factory import build_loss
from medresnet3d.networks.cross_residual import CROSS, CrossResNet
from medresnet3d.networks.deep_supervision import DeeplySupervisedClassifier, build_deeply_supervised
from medresnet3d.transforms.microscopy import CellMinMax

RATES, STEPS, SIZE = (1e-3, 3e-3), 60, 48
Cells = tuple[Tensor, Tensor]
Network = TypeVar("Network", bound=nn.Module)


def cells(patterns: Sequence[str], number: int, seed: int) -> Cells:
    """Pictures (6 * number, 1, size, size) in lights of all strengths, each stretched to 0 to 1, and their classes."""
    lights = np.random.default_rng([seed, 1]).uniform(0.2, 1.0, 6 * number)
    drawn = [
        hep2_cell([seed, n], patterns[n % 6], SIZE, strength=float(light), difficulty=0.5)[0][None]
        for n, light in enumerate(lights)
    ]
    return torch.from_numpy(np.stack([CellMinMax()(cell) for cell in drawn])) - 0.3, torch.arange(6 * number) % 6


def fitted(network: Network, data: Cells, steps: int, rate: float, seed: int) -> Network:
    """The network after training with quarter turns, one cycle of the rate."""
    loss = build_loss("cross_entropy", auxiliary_steps=1, auxiliary_start=0.3, auxiliary_end=0.3)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    images, labels = data
    network.train()
    for _ in range(steps):
        chosen = torch.randperm(len(images), generator=generator)[:32]
        turned = torch.rot90(images[chosen], int(torch.randint(4, (), generator=generator)), (2, 3))
        optimizer.zero_grad()
        loss(network(turned), labels[chosen]).backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def accuracy(network: nn.Module, data: Cells) -> float:
    """Share of right answers; the classes are equally many, so it is the mean class accuracy too."""
    with torch.no_grad():
        return float((network(data[0]).argmax(1) == data[1]).float().mean())


def compared(arms: Mapping[str, Callable[[], nn.Module]], seeds: int) -> dict[str, NDArray[np.float64]]:
    """Accuracy of each arm for each seed: twenty cells of I3A a class, at its better rate by validation."""
    validation, test = cells(list(I3A.values()), 10, 200), cells(list(I3A.values()), 40, 300)
    found: dict[str, list[float]] = {name: [] for name in arms}
    for seed in range(seeds):
        data = cells(list(I3A.values()), 20, seed)
        for name, make in arms.items():
            networks = []
            for rate in RATES:
                torch.manual_seed(seed)
                networks.append(fitted(make(), data, STEPS, rate, seed))
            found[name].append(accuracy(max(networks, key=lambda each: accuracy(each, validation)), test))
    return {name: np.array(values) for name, values in found.items()}


def supervised() -> DeeplySupervisedClassifier:
    """A small deeply supervised network of six classes."""
    return build_deeply_supervised("resnet10", ("layer2", "layer3"), 2, 1, 6, "slim")


def transfer(seeds: int) -> dict[str, NDArray[np.float64]]:
    """A trunk that was trained on phantoms of ICPR 2012, with new classifiers, against a random start."""
    torch.manual_seed(0)
    trunk = fitted(supervised(), cells(ICPR2012, 60, 100), 300, 3e-3, 0).network

    def from_trunk() -> DeeplySupervisedClassifier:
        network = supervised()
        kept = {name: tensor for name, tensor in trunk.state_dict().items() if not name.startswith("classifier")}
        network.network.load_state_dict(kept, strict=False)
        return network

    return compared({"transfer": from_trunk, "random start": supervised}, seeds)


def cross_connections(seeds: int) -> dict[str, NDArray[np.float64]]:
    """Each kind of cross connections; the parameters are the same."""

    def arm(cross: str) -> Callable[[], nn.Module]:
        return lambda: CrossResNet((2, 2, 2), 2, 1, 6, cross, width=0.25)

    return compared({cross: arm(cross) for cross in CROSS}, seeds)
