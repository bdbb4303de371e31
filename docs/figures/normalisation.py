"""Figures of the page on normalisation; run as a script, it prints the numbers of the page."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn

from medresnet3d.networks.layers.batch_renorm import BatchRenorm1d

SIZES = (2, 4, 8, 16, 32, 64)


def data(seed: int = 0) -> torch.Tensor:
    """256 samples of four features in four classes, sorted by class, whose means lie three deviations apart."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(256, 4, generator=generator) + 3 * torch.arange(4).repeat_interleave(64)[:, None]


def gap(norm: nn.Module, batches: list[torch.Tensor]) -> float:
    """Mean distance between a layer's outputs in training and in evaluation after 1500 batches."""
    for _ in range(1500 // len(batches)):
        for batch in batches:
            norm.train()(batch)
    with torch.no_grad():
        training = torch.cat([norm.train()(batch) for batch in batches])
        evaluation = torch.cat([norm.eval()(batch) for batch in batches])
    return float((training - evaluation).abs().mean())


def gaps() -> dict[str, dict[int, float]]:
    """Gap by batch size, of both layers, for shuffled and for sorted samples."""
    ordered = data()
    shuffled = ordered[torch.randperm(256, generator=torch.Generator().manual_seed(1))]
    found: dict[str, dict[int, float]] = {}
    for order, samples in (("shuffled", shuffled), ("sorted", ordered)):
        for name in ("batch", "batch_renorm"):
            found[f"{name}, {order}"] = {size: gap(_layer(name), list(samples.split(size))) for size in SIZES}
    return found


def _layer(name: str) -> nn.Module:
    if name == "batch":
        return nn.BatchNorm1d(4, momentum=0.01)
    return BatchRenorm1d(4, warmup=100, r_steps=200, d_steps=200)


def gap_figure() -> plt.Figure:
    """The gap over the batch size."""
    figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for name, values in gaps().items():
        style = "--" if name.endswith("sorted") else "-"
        ax.plot(list(values), list(values.values()), style, marker="o", markersize=3, label=name)
    ax.set(xscale="log", xlabel="batch size", ylabel="gap between training and evaluation")
    ax.minorticks_off()
    ax.set_xticks(SIZES, [str(size) for size in SIZES])
    ax.legend(fontsize=8)
    return figure


def schedule_figure() -> plt.Figure:
    """The paper's limits over the batches."""
    layer = BatchRenorm1d(1)
    steps = list(range(0, 50_001, 500))
    limits = []
    for step in steps:
        layer.num_batches_tracked.fill_(step)
        limits.append([float(limit) for limit in layer.limits()])
    figure, ax = plt.subplots(figsize=(6, 2.8), layout="constrained")
    for name, values in zip(("largest r", "largest d"), zip(*limits, strict=True), strict=True):
        ax.plot(steps, values, label=name)
    ax.set(xlabel="batch")
    ax.legend(fontsize=8)
    return figure


def draw(folder: Path) -> None:
    """Write the page's SVG files into ``folder``."""
    with plt.rc_context({"svg.hashsalt": "normalisation", "figure.dpi": 100, "font.size": 9, "axes.grid": True}):
        for name, figure in {"gap": gap_figure(), "schedule": schedule_figure()}.items():
            figure.savefig(folder / f"normalisation_{name}.svg", metadata={"Date": None})
            plt.close(figure)


if __name__ == "__main__":
    for name, values in gaps().items():
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in values.values())} |")
