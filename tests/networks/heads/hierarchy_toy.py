"""The toy on which two levels of classes decide: whoever labelled the cases was sure of the lineage, not of the kind.

Twenty-four kinds in four lineages are Gaussian clouds in 32 dimensions, the lineages further apart than their kinds. Of
each kind there are four cases to learn from, and sixty in a hundred have the label of any kind of their lineage.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medresnet3d.losses.hierarchical import HierarchicalLoss
from medresnet3d.networks.heads.hierarchical import HierarchicalHead

KINDS, LINEAGES, DIMENSIONS, HIDDEN, STEPS, RATES = 24, 4, 32, 64, 60, (2e-3, 1e-2)
GROUPS = torch.arange(KINDS) // (KINDS // LINEAGES)
Cases = tuple[Tensor, Tensor]


def cases(number: int, seed: int, world: int, doubt: float = 0.0) -> Cases:
    """``number`` cases (n, 32) of each kind and their labels; ``doubt`` is the share labelled as any of the lineage."""
    places, draws = torch.Generator().manual_seed(world), torch.Generator().manual_seed(seed + 1000)
    lineages = 0.35 * torch.randn(LINEAGES, DIMENSIONS, generator=places)
    kinds = lineages[GROUPS] + 0.15 * torch.randn(KINDS, DIMENSIONS, generator=places)
    label = torch.arange(KINDS * number) % KINDS
    case = kinds[label] + torch.randn(len(label), DIMENSIONS, generator=draws)
    unsure = torch.rand(len(label), generator=draws) < doubt
    size = KINDS // LINEAGES
    label[unsure] = GROUPS[label[unsure]] * size + torch.randint(size, (int(unsure.sum()),), generator=draws)
    return case, label


def fitted(is_tree: bool, data: Cases, rate: float, seed: int) -> nn.Module:
    """A hidden layer, and a last one on two levels with the loss of both, or a plain one with cross-entropy."""
    torch.manual_seed(seed)
    head = HierarchicalHead(HIDDEN, GROUPS.tolist()) if is_tree else nn.Linear(HIDDEN, KINDS)
    network = nn.Sequential(nn.Linear(DIMENSIONS, HIDDEN), nn.ReLU(), head)
    loss = HierarchicalLoss(GROUPS.tolist()) if is_tree else nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(network(data[0]), data[1]).backward()
        optimizer.step()
    return network


def distance(network: nn.Module, data: Cases) -> float:
    """Mean distance of answers from the truth in the tree: 0 right, 1 in the lineage, 2 in another."""
    with torch.no_grad():
        answer = network(data[0]).argmax(1)
    return float(((answer != data[1]).float() + (GROUPS[answer] != GROUPS[data[1]])).mean())


def distances(seeds: int) -> NDArray[np.float64]:
    """Distance of the flat network and of the tree for each seed, (seeds, 2), each at its better rate by validation."""
    found = []
    for seed in range(seeds):
        data = cases(4, seed, seed, doubt=0.6)
        validation, test = cases(20, seed + 500, seed), cases(60, seed + 900, seed)
        row = []
        for is_tree in (False, True):
            networks = [fitted(is_tree, data, rate, seed) for rate in RATES]
            row.append(distance(min(networks, key=lambda each: distance(each, validation)), test))
        found.append(row)
    return np.array(found)
