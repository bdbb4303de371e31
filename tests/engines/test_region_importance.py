"""Taking away the region that tells the classes apart hurts most."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from torch import nn

from medresnet3d.data import SeededDataset
from medresnet3d.engines.region_importance import RegionImportance, region_importance
from medresnet3d.networks.cluster_densenet import ClusterDenseNet
from tests.networks.test_cluster_densenet import TINY, fit_clusters

CORNERS = {2: (2, 26), 6: (26, 2)}
"""Voxels that belong to one region alone, by the region's number."""


def cohort(region: int, count: int, seed: int) -> SeededDataset:
    """Brains of noise with dots everywhere; of class 1 the dots in one region are missing."""
    generator = torch.Generator().manual_seed(seed)
    items = []
    for number in range(count):
        image = 0.3 * torch.randn(1, 32, 32, generator=generator)
        for i, j in torch.randint(0, 31, (30, 2), generator=generator).tolist():
            image[:, i : i + 2, j : j + 2] += 1
        i, j = CORNERS[region]
        image[:, i : i + 4, j : j + 4] = 0.3 * torch.randn(4, 4, generator=generator) + (0 if number % 2 else 1)
        items.append({"image": image, "label": number % 2, "patient": f"p{number}"})
    return SeededDataset(items, lambda item: item)


def trained(region: int) -> RegionImportance:
    """Train on a cohort and measure on another."""
    torch.manual_seed(0)
    data = cohort(region, 64, seed=0).data
    images = torch.stack([item["image"] for item in data])
    labels = torch.tensor([item["label"] for item in data])
    network = fit_clusters(ClusterDenseNet(2, **TINY), images).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.005)
    for _ in range(15):
        for part in torch.randperm(len(labels)).split(32):
            loss = nn.functional.cross_entropy(network(images[part]), labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return region_importance(network.eval(), cohort(region, 64, seed=1))


@pytest.mark.slow
@pytest.mark.parametrize("region", [6, 2])
def test_the_region_with_the_atrophy_is_the_important_one(region: int, tmp_path: Path) -> None:
    found = trained(region)
    name, rise = found.ranked()[0]
    assert name == ClusterDenseNet(2, **TINY).region_names()[region]
    assert rise > 3 * found.ranked()[1][1] and rise > 0.05
    found.write(tmp_path / "regions.csv")
    rows = list(csv.DictReader((tmp_path / "regions.csv").open()))
    assert [row["region"] for row in rows] == [each for each, _ in found.ranked()]


def test_ranking_is_by_the_rise() -> None:
    assert RegionImportance(("a", "b", "c"), (0.1, 0.5, -0.2)).ranked() == [("b", 0.5), ("a", 0.1), ("c", -0.2)]
