"""Features of every case of a data set, with its class and patient: what second stages are fitted on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from medresnet3d.errors import DataError
from medresnet3d.progress import track


@dataclass(frozen=True)
class Cases:
    """Features and truth of N cases.

    Args:
        features: (N, F), on the CPU.
        labels: class numbers.
        patients: who each case is of.
    """

    features: Tensor
    labels: list[int]
    patients: list[str]


def extract(network: nn.Module, dataset: Any, function: Callable[[Tensor], Tensor], batch_size: int = 16) -> Cases:
    """Compute a function of each image of a data set, in fp32, with the network in eval mode.

    Every process of a distributed run computes all cases, so that all fit the same.

    Args:
        network: tells the device; its mode is restored.
        dataset: a :class:`medresnet3d.data.SeededDataset` without random transforms, for classification.
        function: from images (B, C, ...) to features (B, F).
        batch_size: images at a time; it does not change the result beyond rounding.

    Raises:
        DataError: if a case names no class or no patient.
    """
    device, mode = next(network.parameters()).device, network.training
    network.eval()
    parts = []
    with torch.inference_mode():
        for start in track(range(0, len(dataset), batch_size), "computing features"):
            batch = stacked(dataset, range(start, min(start + batch_size, len(dataset))))
            parts.append(function(batch.to(device)).float().cpu())
    network.train(mode)
    return Cases(torch.cat(parts).clone(), *_truth(dataset))


def stacked(dataset: Any, places: Iterable[int]) -> Tensor:
    """Images of a data set at some places, (B, C, ...), as plain tensors."""
    images = [dataset[place]["image"] for place in places]
    return torch.stack([each.as_tensor() if isinstance(each, MetaTensor) else each for each in images])


def _truth(dataset: Any) -> tuple[list[int], list[str]]:
    for item in dataset.data:
        missing = [key for key in ("label", "patient") if key not in item]
        if missing:
            raise DataError(
                f"{item.get('path', 'An entry')} names no {missing[0]}; a second stage is fitted by patient, so every "
                "training entry of the manifest needs one."
            )
    return [int(item["label"]) for item in dataset.data], [str(item["patient"]) for item in dataset.data]
