"""Figures of the page on optimisers; run as a script, it prints the tables of the page."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

from medresnet3d.optimizers import build_optimizer

RULES = ("sgd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "adam")
RATE = 0.01
START = (1.0, 1e-4)


def rate(name: str) -> float:
    """0.01, but 1 for AdaDelta, which chooses its own scale."""
    return 1.0 if name == "adadelta" else RATE


def saddle_path(name: str, start: tuple[float, float] = START, steps: int = 1500) -> np.ndarray:
    """Points (n, 2) of a walk on x^2 - y^2 until |y| > 1."""
    point = nn.Parameter(torch.tensor([start], dtype=torch.float64))
    module = nn.Module()
    module.weight = point
    optimizer = build_optimizer(module, name, rate(name))
    path = [point.detach().numpy()[0].copy()]
    for _ in range(steps):
        optimizer.zero_grad()
        (point[0, 0] ** 2 - point[0, 1] ** 2).backward()
        optimizer.step()
        path.append(point.detach().numpy()[0].copy())
        if abs(path[-1][1]) > 1:
            break
    return np.array(path)


def saddle() -> plt.Figure:
    """Paths on the saddle, and the distance from its ridge over the steps."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    x, y = np.meshgrid(np.linspace(-0.7, 1.1, 80), np.linspace(-0.1, 1.1, 80))
    left.contour(x, y, x**2 - y**2, 16, colors="0.8", linewidths=0.7)
    for name in RULES:
        path = saddle_path(name)
        left.plot(path[:, 0], path[:, 1], label=name)
        right.semilogy(np.abs(path[:, 1]), label=f"{name}: {len(path) - 1}")
    left.set(title="f = x² - y² from (1, 0.0001)", xlabel="x", ylabel="y", xlim=(-0.7, 1.1), ylim=(-0.1, 1.1))
    right.set(title="Steps until |y| > 1", xlabel="step", ylabel="|y|", xlim=(0, 1300), ylim=(5e-5, 2))
    right.legend(fontsize=7, loc="lower right")
    return figure


def valley_losses(name: str, steps: int = 300) -> list[float]:
    """Values of x^2 / 2 + 25 y^2 / 2 on the way down from (1, 1)."""
    point = nn.Parameter(torch.ones(1, 2, dtype=torch.float64))
    module = nn.Module()
    module.weight = point
    optimizer = build_optimizer(module, name, rate(name))
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = 0.5 * point[0, 0] ** 2 + 12.5 * point[0, 1] ** 2
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def effective_rates(name: str, steps: int = 300) -> list[float]:
    """Length of a step divided by the gradient, where gradients of unit variance come at random."""
    generator = torch.Generator().manual_seed(0)
    point = nn.Parameter(torch.zeros(1, 1, dtype=torch.float64))
    module = nn.Module()
    module.weight = point
    optimizer = build_optimizer(module, name, rate(name))
    rates = []
    for _ in range(steps):
        point.grad = torch.randn(1, 1, generator=generator, dtype=torch.float64)
        before = point.item()
        optimizer.step()
        rates.append(abs((point.item() - before) / point.grad.item()))
    return rates


def descent() -> plt.Figure:
    """A narrow valley, and the rates that the rules make of one given rate."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for name in RULES:
        left.semilogy(valley_losses(name), label=name)
    left.set(title="A valley: x²/2 + 25 y²/2 from (1, 1)", xlabel="step", ylabel="value", ylim=(1e-8, 20))
    left.legend(fontsize=7)
    for name in ("sgd", "adagrad", "rmsprop"):
        right.semilogy(effective_rates(name), label=name)
    right.set(title="Effective rate under random gradients", xlabel="step", ylabel="step / gradient")
    right.legend(fontsize=7)
    return figure


def draw(folder: Path) -> None:
    """Write the page's SVG files into ``folder``."""
    with plt.rc_context({"svg.hashsalt": "optimisers", "figure.dpi": 100, "font.size": 9, "axes.grid": True}):
        for name, figure in {"saddle": saddle(), "descent": descent()}.items():
            figure.savefig(folder / f"optimisers_{name}.svg", metadata={"Date": None})
            plt.close(figure)


def main() -> None:
    """Print the tables."""
    print("steps to leave the saddle, from y = 1e-4 and 1e-8 (at most 3000), valley after 100 and 300 steps")
    for name in RULES:
        near, far = (len(saddle_path(name, (1.0, y), 3000)) - 1 for y in (1e-4, 1e-8))
        losses, rates = valley_losses(name), effective_rates(name)
        print(f"| {name} | {near} | {far} | {losses[99]:.2g} | {losses[-1]:.2g} | {rates[0]:.2g} | {rates[-1]:.2g} |")


if __name__ == "__main__":
    main()
