"""What comes before the joint training of a network of patch clusters: the clusters, their DenseNets, the regions.

After F. Li and M. Liu (2018): patches of a region are clustered, a DenseNet learns each cluster, its features become
those of the region, then of the image. Regions are done one after another, so that no more than the images' part in one
region is in memory, and each finished region is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medresnet3d.data.seeding import derive_seed, seeded
from medresnet3d.engines.checkpoint import load_checkpoint, save_checkpoint
from medresnet3d.engines.device import rank
from medresnet3d.engines.features import extract
from medresnet3d.errors import ConfigError
from medresnet3d.networks.cluster_densenet import ClusterDenseNet, RegionDenseNet
from medresnet3d.networks.windows import windows
from medresnet3d.optimizers import build_lr_scheduler, build_optimizer
from medresnet3d.progress import hide_progress, track

LAYER_EPOCHS = 10
"""Epochs of a linear layer for each of a DenseNet: its inputs are computed once, so that they cost little."""


def _with_clusters(network: nn.Module) -> ClusterDenseNet:
    if not isinstance(network, ClusterDenseNet):
        raise ConfigError(f"{type(network).__name__} has no clusters of patches; use build_cluster_densenet.")
    return network


def _regions(network: ClusterDenseNet) -> list[RegionDenseNet]:
    return [region for region in network.regions if isinstance(region, RegionDenseNet)]


class FitPatchClusters:
    """Fit principal components and centres of each region's patches; for ``FitStage``.

    Args:
        dataset: training cases without random transforms, and no others: the clusters are part of the model.
        seed: of the choice of patches and of k-means.
        patches: of a region to fit on, at most; drawn at random where there are more.
        batch_size: images at a time.
    """

    def __init__(self, dataset: Any, seed: int = 0, patches: int = 20_000, batch_size: int = 8) -> None:
        self.dataset, self.seed, self.patches, self.batch_size = dataset, seed, patches, batch_size

    def __call__(self, network: nn.Module, folder: Path) -> None:
        """Fit all regions.

        Raises:
            ConfigError: if the network has no clusters, or the images are too small for its regions.
            DataError: if a case names no class or patient, or there are fewer patches than clusters.
        """
        network = _with_clusters(network)
        for number, region in enumerate(track(_regions(network), "clustering patches")):
            described = self._described(network, number, region)
            generator = torch.Generator().manual_seed(derive_seed(self.seed, number))
            drawn = torch.randperm(len(described), generator=generator)[: self.patches]
            region.clusters.fit(described[drawn], seed=derive_seed(self.seed, number, 1))

    def _described(self, network: ClusterDenseNet, number: int, region: RegionDenseNet) -> Tensor:
        """What the clusters of a region see of its patches, (cases * patches, values)."""

        def describe(images: Tensor) -> Tensor:
            found = region.clusters.describe(region.patches(network.region_crops(images)[number]))
            return found.unflatten(0, (-1, len(images))).transpose(0, 1).flatten(1)

        with hide_progress():
            cases = extract(network, self.dataset, describe, self.batch_size)
        return cases.features.reshape(-1, region.clusters.mean.numel())


@dataclass(frozen=True)
class Descent:
    """How one of the many small trainings goes: AdamW, one cycle of the learning rate, cross-entropy.

    Args:
        epochs: times through its samples.
        batch_size: samples at a time.
        learning_rate: the largest one.
        weight_decay: of AdamW.
    """

    epochs: int = 5
    batch_size: int = 32
    learning_rate: float = 0.003
    weight_decay: float = 0.01

    def run(self, module: nn.Module, take: Callable[[Tensor], Tensor], labels: Tensor, seed: int) -> None:
        """Train a module in fp32 and leave it in eval mode.

        Args:
            module: from samples to logits, on its device.
            take: gives the samples of some numbers.
            labels: class numbers, (N,).
            seed: of the order of the samples and of what the module draws.
        """
        device = next(module.parameters()).device
        batches = -(-len(labels) // self.batch_size)
        steps = self.epochs * batches
        optimizer = build_optimizer(module, "adamw", self.learning_rate, self.weight_decay)
        schedule = build_lr_scheduler(optimizer, "one_cycle", steps)
        module.train()
        with seeded(seed):
            for _ in range(self.epochs):
                for part in torch.randperm(len(labels)).split(self.batch_size):
                    loss = F.cross_entropy(module(take(part).to(device)), labels[part].to(device))
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    schedule.step()
        module.eval()


class TrainRegions:
    """Train the DenseNets of each region, then its linear layer, at last that of the image; for ``FitStage``.

    1. Each DenseNet, with a last layer of its own that is thrown away, learns the image's class from the patches of its
       cluster.
    2. The linear layer of the region, with such a last layer too, learns it from the features of the DenseNets.
    3. The network's last layer learns it from the features of all regions.

    Args:
        dataset: training cases without random transforms.
        seed: of the heads and of the orders.
        epochs: of each DenseNet; the linear layers have :data:`LAYER_EPOCHS` times as many.
        batch_size: patches, and later cases, at a time.
        learning_rate: the largest one.
        image_batch_size: images at a time where features are computed.
    """

    def __init__(
        self,
        dataset: Any,
        seed: int = 0,
        epochs: int = 5,
        batch_size: int = 32,
        learning_rate: float = 0.003,
        image_batch_size: int = 8,
    ) -> None:
        self.dataset, self.seed, self.image_batch_size = dataset, seed, image_batch_size
        self.descent = Descent(epochs, batch_size, learning_rate)

    def __call__(self, network: nn.Module, folder: Path) -> None:
        """Train region after region; those that are finished lie in ``folder`` and are not trained again.

        Raises:
            ConfigError: if the network has no clusters, or the images are too small for its regions.
            DataError: if a case names no class or patient.
        """
        network = _with_clusters(network)
        features, labels = [], torch.empty(0)
        for number, region in enumerate(track(_regions(network), "training regions")):
            kept = folder / f"region_{number:02d}.pt"
            if not kept.is_file():
                found = self._train(network, number, region)
                if rank() == 0:
                    save_checkpoint({"region": region.state_dict(), **found}, kept)
            else:
                found = load_checkpoint(kept)
                region.load_state_dict(found["region"])
            features.append(found["features"])
            labels = found["labels"]
        joined = torch.stack(features, dim=2).flatten(1)
        self._learn(network.classifier, joined, labels, len(network.regions))

    def _train(self, network: ClusterDenseNet, number: int, region: RegionDenseNet) -> dict[str, Any]:
        """Train one region; gives its features and the labels of all cases."""
        crops, labels = self._crops(network, number)
        classes, device = network.classifier.out_features, network.classifier.weight.device
        edges = [region.patch_size] * (crops.ndim - 2)
        views = windows(crops, edges, region.patches_per_axis)
        with torch.no_grad():
            cluster = torch.stack([region.clusters(view.to(device)).cpu() for view in views])
        for index, trunk in enumerate(region.trunks):
            places = (cluster == index).nonzero()

            def take(part: Tensor, places: Tensor = places) -> Tensor:
                return torch.stack([views[patch][case] for patch, case in places[part].tolist()])

            head = self._head(region.features, classes, device, number, index)
            self.descent.run(
                nn.Sequential(trunk, head), take, labels[places[:, 1]], derive_seed(self.seed, number, index)
            )
        pooled = self._batched(region.pooled, crops, device)
        after = nn.Sequential(region.project, region.act)
        head = self._head(region.project.out_features, classes, device, number, len(region.trunks))
        self._learn(nn.Sequential(*after, head), pooled, labels, number)
        return {"features": self._batched(after, pooled, device), "labels": labels}

    def _crops(self, network: ClusterDenseNet, number: int) -> tuple[Tensor, Tensor]:
        """All cases' part in one region, (N, C, ...), and their labels, on the CPU."""
        shape: list[int] = []

        def crop(images: Tensor) -> Tensor:
            part = network.region_crops(images)[number]
            shape[:] = part.shape[1:]
            return part.flatten(1)

        with hide_progress():
            cases = extract(network, self.dataset, crop, self.image_batch_size)
        return cases.features.unflatten(1, shape), torch.tensor(cases.labels)

    def _head(self, features: int, classes: int, device: torch.device, *key: int) -> nn.Linear:
        with seeded(derive_seed(self.seed, 1, *key)):
            return nn.Linear(features, classes).to(device)

    def _learn(self, module: nn.Module, features: Tensor, labels: Tensor, number: int) -> None:
        descent = replace(self.descent, epochs=LAYER_EPOCHS * self.descent.epochs)
        descent.run(module, features.__getitem__, labels, derive_seed(self.seed, 2, number))

    def _batched(self, function: Callable[[Tensor], Tensor], values: Tensor, device: torch.device) -> Tensor:
        with torch.no_grad():
            parts = [function(part.to(device)).cpu() for part in values.split(self.image_batch_size)]
        return torch.cat(parts)
