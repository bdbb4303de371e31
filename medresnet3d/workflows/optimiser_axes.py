"""``compare --optimiser-axes``: the survey's four axes for optimisers, measured, as tables, figure and page."""

from __future__ import annotations

import math
import os
from pathlib import Path

from medresnet3d.io.atomic import atomic_path
from medresnet3d.optimizers.axes import (
    AXES_RULES,
    CALM,
    CALM_AFTER,
    GRID,
    ROBUSTNESS_LEVEL,
    ROBUSTNESS_STEPS,
    SPEED_LEVEL,
    STARTS,
    AxesResult,
    measure,
)
from medresnet3d.progress import track
from medresnet3d.reports.blocks import Block, Figure, Heading, Report, Table, Text
from medresnet3d.reports.comparison_figures import lines_plot
from medresnet3d.reports.html import figure_bytes, write_report
from medresnet3d.workflows.compare_tables import write_table

_EXPLAINED = (
    f"Robustness: share of {STARTS} random starts from which the Rosenbrock function falls below {ROBUSTNESS_LEVEL:g} "
    f"within {ROBUSTNESS_STEPS} steps, at the best learning rate of {', '.join(f'{rate:g}' for rate in GRID)}. Saddle: "
    "steps to leave that of x\u00b2 \u2212 y\u00b2 from (1, 0.0001), at 0.01 (AdaDelta: 1). Speed: median over the "
    f"starts of the steps until \u00bd(u\u00b2 + 25v\u00b2), turned by 30 degrees, falls below {SPEED_LEVEL:g}, at the "
    "best rate. Where the steps were not enough, nothing is given. Toys say how a rule behaves, not which one trains a "
    "network best."
)


def measure_axes(output: str | os.PathLike[str]) -> Path:
    """Measure the axes and write ``axes.csv``, ``effective_rate.csv``, ``effective_rate.svg`` and ``report.html``.

    Args:
        output: folder for the files.

    Returns:
        The page.
    """
    folder = Path(output)
    results = [measure(rule) for rule in track(AXES_RULES, "measuring optimisers")]
    write_table([_row(result) for result in results], folder / "axes.csv")
    steps = range(1, len(results[0].effective_rate) + 1)
    rates = {result.rule: result.effective_rate for result in results}
    columns = zip(*rates.values(), strict=True)
    write_table(
        [{"step": step, **dict(zip(rates, row, strict=True))} for step, row in zip(steps, columns, strict=True)],
        folder / "effective_rate.csv",
    )
    figure = lines_plot(
        {name: (list(steps), values) for name, values in rates.items()}, "step", "effective rate", log=True
    )
    image = figure_bytes(figure)
    with atomic_path(folder / "effective_rate.svg") as temporary:
        temporary.write_bytes(image)
    axes, effective = _tables(results)
    blocks: list[Block] = [
        Heading("Robustness, saddle and speed"),
        axes,
        Text(_EXPLAINED),
        Heading("Effective rate"),
        Figure(
            image,
            "Size of an update over the size of the gradient. Gradients are random numbers, which become "
            f"{1 / CALM:g} times smaller after step {CALM_AFTER}. All at 0.01, AdaDelta at 1.",
            "effective rate over the steps",
        ),
        effective,
    ]
    return write_report(Report("Optimisers on the survey's four axes", "Toy functions", blocks), folder / "report.html")


def _row(result: AxesResult) -> dict[str, str | float]:
    return {
        "rule": result.rule,
        "robustness": result.robustness,
        "robustness_rate": result.robustness_rate,
        "saddle_steps": math.nan if result.saddle_steps is None else result.saddle_steps,
        "speed_steps": math.nan if result.speed_steps is None else result.speed_steps,
        "speed_rate": math.nan if result.speed_steps is None else result.speed_rate,
        "rate_first": result.effective_rate[0],
        "rate_before_calm": _mean(result.effective_rate[CALM_AFTER - 20 : CALM_AFTER]),
        "rate_end": _mean(result.effective_rate[-20:]),
    }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _tables(results: list[AxesResult]) -> tuple[Table, Table]:
    """Give the first three axes, and the effective rates."""
    rows = [list(_row(result).values()) for result in results]
    axes = ["rule", "robustness", "at rate", "steps to leave the saddle", "steps down the valley", "at rate "]
    rates = ["rule", "first step", "before the change", "at the end"]
    return Table(axes, [row[:6] for row in rows]), Table(rates, [[row[0], *row[6:]] for row in rows])
