"""Which regions of the brain a network of patch clusters relies on: what it costs to take each away."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from medresnet3d.engines.features import extract
from medresnet3d.engines.logs import write_metrics
from medresnet3d.networks.cluster_densenet import ClusterDenseNet


@dataclass(frozen=True)
class RegionImportance:
    """What the ablation of regions found.

    Args:
        regions: names, in the network's order.
        rises: rise of the mean cross-entropy when the region's features are replaced by their mean over the cases.
    """

    regions: tuple[str, ...]
    rises: tuple[float, ...]

    def ranked(self) -> list[tuple[str, float]]:
        """Regions and rises, the most important first."""
        return sorted(zip(self.regions, self.rises, strict=True), key=lambda pair: -pair[1])

    def write(self, path: str | Path) -> None:
        """Write the ranked table as CSV, whole or not at all."""
        rows: list[dict[str, Any]] = [{"region": name, "rise": round(rise, 6)} for name, rise in self.ranked()]
        write_metrics(rows, Path(path))


def region_importance(network: ClusterDenseNet, dataset: Any, batch_size: int = 8) -> RegionImportance:
    """Take the regions away one by one and see how much worse the network becomes.

    The features of a region are replaced by their mean over all cases, so that they tell cases apart no longer. Regions
    overlap and tell of each other: one of two that know the same can look as if it did not matter.

    Args:
        network: trained.
        dataset: cases without random transforms, with class and patient; best some that it was not trained on.
        batch_size: images at a time.

    Raises:
        DataError: if a case names no class or patient.
    """
    cases = extract(network, dataset, network.forward_features, batch_size)
    labels, names = torch.tensor(cases.labels), network.region_names()
    features = cases.features.unflatten(1, (-1, len(names)))
    device = network.classifier.weight.device

    def error(values: torch.Tensor) -> float:
        return float(F.cross_entropy(network.classifier(values.flatten(1).to(device)).cpu().float(), labels))

    with torch.inference_mode():
        whole, rises = error(features), []
        for number in range(len(names)):
            without = features.clone()
            without[:, :, number] = features[:, :, number].mean(0)
            rises.append(error(without) - whole)
    return RegionImportance(tuple(names), tuple(rises))
