"""Figures of the page on regularisers; run as a script, it prints the table of the page."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from sklearn.datasets import load_digits
from torch import Tensor, nn

from medresnet3d.data.phantoms.nodule_cubes import nodule_cube
from medresnet3d.optimizers import build_optimizer, l1_penalty, regularised_parameters, soft_threshold
from medresnet3d.transforms.ct_augmentation import STRENGTHS, nodule_cube_augmentation

MODES = ("l1 penalty", "l1 proximal", "l2")
STRENGTHS_OF_PENALTY = (0.0, 0.0003, 0.001, 0.003, 0.01, 0.03)
TRAINING = 200


@cache
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """200 pictures of 8 x 8 to train on and 1597 to test on, with 64 columns of noise beside the 64 pixels."""
    data = load_digits()
    generator = torch.Generator().manual_seed(0)
    pixels = torch.as_tensor(data.data / 16 - 0.3, dtype=torch.float32)
    images = torch.cat([pixels, 0.5 * torch.randn(len(pixels), 64, generator=generator)], 1)
    labels = torch.as_tensor(data.target)
    order = torch.randperm(len(labels), generator=generator)
    train, test = order[:TRAINING], order[TRAINING:]
    return images[train], labels[train], images[test], labels[test]


def fit(mode: str, strength: float, steps: int = 300) -> tuple[float, float]:
    """Train a linear classifier; its accuracy on the test pictures, and the share of weights that are exactly zero."""
    images, labels, test_images, test_labels = digits()
    torch.set_num_threads(1)  # the matrices are small
    torch.manual_seed(0)
    network = nn.Linear(images.shape[1], 10)
    weights = regularised_parameters(network)
    optimizer = build_optimizer(network, "gd", 1.0, weight_decay=strength if mode == "l2" else 0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(images), labels)
        (loss + l1_penalty(weights, strength) if mode == "l1 penalty" else loss).backward()
        optimizer.step()
        if mode == "l1 proximal":
            soft_threshold(optimizer, weights, strength)
    accuracy = (network(test_images).argmax(1) == test_labels).float().mean().item()
    return accuracy, (network.weight == 0).float().mean().item()


def sparsity() -> plt.Figure:
    """Accuracy and zeros over the strength."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for mode in MODES:
        results = [fit(mode, strength) for strength in STRENGTHS_OF_PENALTY]
        left.plot([100 * accuracy for accuracy, _ in results], "o-", label=mode)
        right.plot([100 * zeros for _, zeros in results], "o-", label=mode)
    for ax in (left, right):
        ax.set_xticks(range(len(STRENGTHS_OF_PENALTY)), [f"{strength:g}" for strength in STRENGTHS_OF_PENALTY])
        ax.set_xlabel("strength")
    left.set(title="Accuracy on 1597 digits, trained on 200", ylabel="%")
    right.set(title="Weights that are exactly zero", ylabel="%")
    right.legend(fontsize=7)
    return figure


def augmentation() -> plt.Figure:
    """Middle slices of one phantom nodule under each strength."""
    figure, axes = plt.subplots(len(STRENGTHS), 6, figsize=(7, 4.8), layout="constrained")
    hu, _ = nodule_cube(5, "solid_spiculated")
    cube = torch.as_tensor(np.clip((hu + 1000) / 1400, 0, 1), dtype=torch.float32)[None]
    for row, strength in zip(axes, STRENGTHS, strict=True):
        transform = Compose(nodule_cube_augmentation(strength, cube.shape[1]))
        transform.set_random_state(3)
        for ax in row:
            item = transform({"image": MetaTensor(cube)})["image"]
            ax.imshow(np.asarray(item[0, :, :, 16]).T, cmap="gray", vmin=0, vmax=1, origin="lower")
            ax.set(xticks=[], yticks=[])
        row[0].set_ylabel(strength)
    return figure


def draw(folder: Path) -> None:
    """Write the page's SVG files into ``folder``."""
    with plt.rc_context({"svg.hashsalt": "regularisers", "figure.dpi": 100, "font.size": 9}):
        for name, figure in {"sparsity": sparsity(), "augmentation": augmentation()}.items():
            figure.savefig(folder / f"regularisers_{name}.svg", metadata={"Date": None})
            plt.close(figure)


def main() -> None:
    """Print the table."""
    for strength in STRENGTHS_OF_PENALTY:
        cells = [f"{100 * accuracy:.1f} ({100 * zeros:.0f})" for accuracy, zeros in (fit(m, strength) for m in MODES)]
        print(f"| {strength:g} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
