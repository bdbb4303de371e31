"""Figures of the page on dropout and DropConnect; run as a script, it prints the numbers of the page."""

from __future__ import annotations

import statistics
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn

from medresnet3d.networks.layers.dropconnect import DropConnectHead, DropConnectLinear
from medresnet3d.networks.layers.random_multiplier import DISTRIBUTIONS, RandomMultiplier

KEEPS = (0.2, 0.35, 0.5, 0.65, 0.8, 1.0)


def masked_sums() -> plt.Figure:
    """What masks make of a unit with two and with fifty inputs, and the Gaussian that stands for them."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    torch.manual_seed(0)
    for ax, layer, x in (
        (axes[0], DropConnectLinear(2, 1, bias=False), torch.tensor([[3.0, 4.0]])),
        (axes[1], DropConnectLinear(50, 1, bias=False), torch.rand(1, 50)),
    ):
        if layer.in_features == 2:
            layer.weight = nn.Parameter(torch.tensor([[1.0, 2.0]]))
        with torch.no_grad():
            drawn = layer.train()(x.expand(20_000, -1))[:, 0]
            mean, deviation = (value.item() for value in layer.moments(x))
        ax.hist(drawn.numpy(), bins=60, density=True, alpha=0.5, label="masks")
        grid = torch.linspace(mean - 4 * deviation, mean + 4 * deviation, 200)
        density = torch.distributions.Normal(mean, deviation).log_prob(grid).exp()
        ax.plot(grid, density, label="Gaussian of the same moments")
        ax.set(title=f"{layer.in_features} inputs", xlabel="u", yscale="log", ylim=(1e-3, None))
    axes[0].legend(fontsize=8)
    return figure


def errors(head_type: str, seeds: int = 5) -> dict[float, float]:
    """Cross-entropy on new samples of a linear rule learned from forty badly labelled ones, by rate of keeping."""
    return {keep: statistics.fmean(_error(head_type, keep, seed) for seed in range(seeds)) for keep in KEEPS}


def _error(head_type: str, keep: float, seed: int) -> float:
    torch.manual_seed(seed)
    rule = torch.randn(100) * (torch.arange(100) < 5)
    x, new = torch.randn(40, 100), torch.randn(1000, 100)
    label, truth = ((x @ rule + 3 * torch.randn(40)) > 0).long(), ((new @ rule) > 0).long()
    network: nn.Module = (
        DropConnectHead(100, 2, keep)
        if head_type == "DropConnect"
        else nn.Sequential(nn.Dropout(1 - keep), nn.Linear(100, 2))
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network.train()(x), label).backward()
        optimizer.step()
    with torch.no_grad():
        return nn.functional.cross_entropy(network.eval()(new), truth).item()


def noise_figure() -> plt.Figure:
    """Error over the probability of keeping."""
    figure, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
    for name in ("dropout", "DropConnect"):
        values = errors(name)
        ax.plot(list(values), list(values.values()), marker="o", markersize=3, label=name)
    ax.set(xlabel="probability of keeping a unit or weight", ylabel="cross-entropy on new samples")
    ax.legend(fontsize=8)
    return figure


def multiplier_figure() -> plt.Figure:
    """Multipliers of two branches."""
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), sharey=True, layout="constrained")
    torch.manual_seed(0)
    for ax, distribution in zip(axes, DISTRIBUTIONS, strict=True):
        layer = RandomMultiplier([nn.Identity(), nn.Identity()], distribution)
        m = layer.train().multipliers(torch.zeros(500, 1))
        ax.scatter(m[:, 0], m[:, 1], s=3)
        ax.plot(*layer.eval().multipliers(torch.zeros(1, 1))[0], "r^", label="evaluation")
        ax.set(title=distribution, xlabel="multiplier of branch 1")
    axes[0].set_ylabel("multiplier of branch 2")
    axes[0].legend(fontsize=8)
    return figure


def draw(folder: Path) -> None:
    """Write the page's SVG files into ``folder``."""
    with plt.rc_context({"svg.hashsalt": "dropout", "figure.dpi": 100, "font.size": 9, "axes.grid": True}):
        figures = {"masked_sums": masked_sums(), "noise": noise_figure(), "multipliers": multiplier_figure()}
        for name, figure in figures.items():
            figure.savefig(folder / f"dropconnect_{name}.svg", metadata={"Date": None})
            plt.close(figure)


if __name__ == "__main__":
    for kind in ("dropout", "DropConnect"):
        print(f"| {kind} | {' | '.join(f'{value:.2f}' for value in errors(kind).values())} |")
