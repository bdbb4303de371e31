"""Convergence of the population methods; run as a program it prints the table of the documentation page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from medresnet3d.optimizers.swarm import PSO, Array, ImprovedWhale, RandomSearch, Swarm, Whale
from medresnet3d.reports.figures import INK, LINES, style

DIMS, POPULATION, ITERATIONS, SEEDS = 10, 30, 200, 20
BOX = [(-5.12, 5.12)] * DIMS
SHIFT = np.linspace(-3, 3.3, DIMS)
METHODS: dict[str, Callable[[int], Swarm]] = {
    "random": lambda seed: RandomSearch(BOX, POPULATION, ITERATIONS, seed),
    "PSO": lambda seed: PSO(BOX, POPULATION, ITERATIONS, seed),
    "PSO, constriction": lambda seed: PSO(BOX, POPULATION, ITERATIONS, seed, constriction=True),
    "whale": lambda seed: Whale(BOX, POPULATION, ITERATIONS, seed),
    "improved whale": lambda seed: ImprovedWhale(BOX, POPULATION, ITERATIONS, seed),
}


def sphere(x: Array) -> Array:
    """Sum of squares, shape (population,)."""
    return np.asarray((x**2).sum(axis=1))


def rastrigin(x: Array) -> Array:
    """Sum of squares with a regular grid of local minima, shape (population,)."""
    return np.asarray(10 * x.shape[1] + (x**2 - 10 * np.cos(2 * np.pi * x)).sum(axis=1))


FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "sphere": sphere,
    "sphere, moved": lambda x: sphere(x - SHIFT),
    "Rastrigin": rastrigin,
    "Rastrigin, moved": lambda x: rastrigin(x - SHIFT),
}


def course(build: Callable[[int], Swarm], function: Callable[[Array], Array], seed: int) -> list[float]:
    """Best value after each iteration."""
    swarm = build(seed)
    return [swarm.step(function).fitness for _ in range(ITERATIONS)]


def medians() -> dict[str, dict[str, Array]]:
    """Median over the seeds of the best value after each iteration, by function and method."""
    return {
        title: {
            name: np.median([course(build, function, seed) for seed in range(SEEDS)], axis=0)
            for name, build in METHODS.items()
        }
        for title, function in FUNCTIONS.items()
    }


def draw(folder: Path) -> None:
    """Draw ``population_methods.svg``."""
    figure = Figure(figsize=(9, 6.4), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True).ravel()
    for axes, (title, courses) in zip(panels, medians().items(), strict=True):
        style(axes)
        for (name, values), color in zip(courses.items(), LINES[::-1], strict=True):
            axes.plot(np.arange(1, ITERATIONS + 1), np.maximum(values, 1e-12), label=name, color=color, lw=1.6)
        axes.set_yscale("log")
        axes.set_title(title, fontsize=10)
        axes.set_ylabel("best value (median of 20)")
    for axes in panels[2:]:
        axes.set_xlabel(f"iteration of {POPULATION} measurements")
    panels[0].legend(frameon=False, fontsize=8, labelcolor=INK)
    figure.savefig(folder / "population_methods.svg", transparent=True)


def main() -> None:
    """Print the median of the best value after the last iteration, as a Markdown table."""
    found = medians()
    print(f"| method | {' | '.join(found)} |\n|---|{'---|' * len(found)}")
    for name in METHODS:
        print(f"| {name} | {' | '.join(f'{courses[name][-1]:.2g}' for courses in found.values())} |")


if __name__ == "__main__":
    main()
