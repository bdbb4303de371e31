"""What pictures of another camera might do to an answer: light, colours, zoom and sharpness of a fold are changed.

    python benchmarks/other_cameras.py --output results --set blood_cells --strength 0.2

``results`` is where ``pictures.py ours`` has trained the folds. Each picture that a fold is measured on is changed by
chance once: brightness, contrast and saturation by up to ``--strength`` each, red, green and blue by up to half of it,
a gamma and a zoom by up to it, and a blur of up to one pixel. Answers are those of the networks alone, of the machine
on what is measured alone, and of both, without mirror images. It is a guess at other cameras, not a measurement.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from picture_figures import figures, paired_intervals, plain_estimate
from pictures import FOLDS, SETS, picture_of
from torch import Tensor

from medresnet3d.bundle.load import load_network
from medresnet3d.data import items
from medresnet3d.networks.object_descriptor import smoothed


def changed(rgb: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Another look at pictures (1, 3, i, j) from 0 to 1."""

    def around_one(reach: float) -> float:
        return 1 + reach * (2 * float(torch.rand((), generator=generator)) - 1)

    rgb = rgb * around_one(strength)
    rgb = rgb.mean() + (rgb - rgb.mean()) * around_one(strength)
    grey = rgb.mean(1, keepdim=True)
    rgb = grey + (rgb - grey) * around_one(strength)
    rgb = rgb * torch.tensor([around_one(strength / 2) for _ in range(3)])[None, :, None, None]
    rgb = rgb.clamp(0, 1) ** around_one(strength)
    zoom = around_one(strength)
    grid = F.affine_grid(torch.tensor([[[zoom, 0, 0], [0, zoom, 0]]]), list(rgb.shape), align_corners=False)
    rgb = F.grid_sample(rgb, grid, padding_mode="reflection", align_corners=False)
    return smoothed(rgb[0], 0.05 + float(torch.rand((), generator=generator)))[None].clamp(0, 1)


def answered(run: Path, manifest: Path, strength: float) -> dict[str, Any]:
    """Probabilities of a fold's pictures by each part, with the truth and the patients."""
    network, transform = load_network(run).eval(), picture_of(run)
    mean, deviation = network.descriptor.mean, network.descriptor.deviation
    generator = torch.Generator().manual_seed(0)
    listed = items(manifest, "test")
    parts: dict[str, list[Tensor]] = {"networks": [], "measured": [], "both": []}
    with torch.inference_mode():
        for item in listed:
            picture = transform(item)["image"].as_tensor()[None] * deviation + mean
            x = (changed(picture, strength, generator) - mean) / deviation if strength else (picture - mean) / deviation
            parts["networks"].append(network.classifier(network.seen(x)).softmax(1))
            parts["measured"].append(network.svm(network.standardised(network.measurements(x))).exp())
            parts["both"].append(network(x).exp())
    found: dict[str, Any] = {name: torch.cat(values).numpy() for name, values in parts.items()}
    return found | {"label": [int(item["label"]) for item in listed], "patient": [item["patient"] for item in listed]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=SETS, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--strength", type=float, default=0.2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    folds = [
        answered(
            options.output / options.set / f"run_fold{fold}",
            options.output / "data" / options.set / f"fold{fold}.json",
            options.strength,
        )
        for fold in range(FOLDS)
    ]
    label = np.concatenate([fold["label"] for fold in folds])
    patients = [patient for fold in folds for patient in fold["patient"]]
    measured = {
        name: figures(np.concatenate([fold[name] for fold in folds]), label)
        for name in ("networks", "measured", "both")
    }
    for name, weighted in measured.items():
        print(name, round(float(weighted(np.ones((1, len(label))))["balanced_accuracy"][0]), 3))
    ahead = paired_intervals(measured["networks"], measured["both"], patients, 2000)["balanced_accuracy"]
    print("both ahead of the networks by", plain_estimate(ahead))


if __name__ == "__main__":
    main()
