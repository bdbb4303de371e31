"""Figures of comparisons: arms with their seeds, heat maps of two factors, courses of trainings, curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from medresnet3d.metrics.estimate import Estimate
from medresnet3d.reports.figures import INK, LINES, style

_BASELINE, _OTHER = LINES[1], LINES[0]
_FAINT = "#a9b3be"


def arms_plot(
    names: Sequence[str], values: Sequence[Sequence[float]], means: Sequence[Estimate], xlabel: str, baseline: int = 0
) -> Figure:
    """Draw arms one below the other: every run a dot, the mean with its 95% interval, and a line at the baseline.

    Args:
        names: names of the arms, from top to bottom.
        values: the metric of each run of each arm; NaN is left out.
        means: mean and interval of each arm.
        xlabel: name of the metric.
        baseline: number of the arm that the others are compared with.
    """
    figure = Figure(figsize=(7.2, 1.0 + 0.42 * len(names)), layout="constrained")
    axes = figure.subplots()
    style(axes)
    if not math.isnan(means[baseline].value):
        axes.axvline(means[baseline].value, color=_BASELINE, lw=1, ls=":")
    for row, (own, mean) in enumerate(zip(values, means, strict=True)):
        color = _BASELINE if row == baseline else _OTHER
        known = [value for value in own if not math.isnan(value)]
        axes.scatter(known, [row] * len(known), s=30, color=color, alpha=0.8, linewidths=0, zorder=3)
        if not math.isnan(mean.low):
            axes.plot([mean.low, mean.high], [row, row], color=color, lw=3, alpha=0.35, solid_capstyle="butt")
        axes.plot([mean.value] * 2, [row - 0.26, row + 0.26], color=color, lw=2.5)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(xlabel)
    _limit(axes, values, means)
    return figure


def _limit(axes: Axes, values: Sequence[Sequence[float]], means: Sequence[Estimate]) -> None:
    """Show all runs, and of wide intervals no more than once the spread of the runs to either side."""
    known = np.array([value for own in values for value in own if not math.isnan(value)])
    ends = [end for mean in means for end in (mean.low, mean.high) if not math.isnan(end)]
    if known.size and ends and np.ptp(known) > 0:
        low, high, spread = known.min(), known.max(), np.ptp(known)
        left, right = max(min([low, *ends]), low - spread), min(max([high, *ends]), high + spread)
        margin = 0.03 * (right - left)
        axes.set_xlim(left - margin, right + margin)


def heat_map(rows: Sequence[str], columns: Sequence[str], values: ArrayLike, ylabel: str, xlabel: str) -> Figure:
    """Draw the means of two factors as shades with the figures in them; NaN stays empty.

    Args:
        rows: levels of the first factor.
        columns: levels of the second.
        values: means (rows, columns).
        ylabel: name of the first factor.
        xlabel: name of the second.
    """
    table = np.asarray(values, dtype=float)
    figure = Figure(figsize=(1.9 + 1.05 * len(columns), 1.2 + 0.62 * len(rows)), layout="constrained")
    axes = figure.subplots()
    style(axes)
    axes.grid(False)
    known = table[np.isfinite(table)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    axes.pcolormesh(np.ma.masked_invalid(table), cmap="Blues", vmin=low, vmax=max(high, low + 1e-9), edgecolors="white")
    axes.invert_yaxis()
    for row, column in np.argwhere(np.isfinite(table)):
        share = (table[row, column] - low) / max(high - low, 1e-9)
        look: dict[str, Any] = {
            "ha": "center",
            "va": "center",
            "fontsize": 9,
            "color": "white" if share > 0.55 else "#1b2430",
        }
        axes.text(column + 0.5, row + 0.5, f"{table[row, column]:.3f}", **look)
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=0 if max(map(len, columns)) < 12 else 30)
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.tick_params(length=0)
    return figure


def courses_plot(
    panels: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike]]], named: Sequence[str], xlabel: str = "step"
) -> Figure:
    """Draw curves of several arms in panels one below the other; those that are not named stay in the background.

    Args:
        panels: curves (x, y) by name, by the panel's vertical axis.
        named: the curves to draw in colour, with a legend; the first in the baseline's.
        xlabel: the horizontal axis.
    """
    panels = {title: curves for title, curves in panels.items() if curves}
    figure = Figure(figsize=(7.2, 2.7 * max(1, len(panels)) + 0.3), layout="constrained")
    grid = figure.subplots(max(1, len(panels)), 1, sharex=True, squeeze=False)[:, 0]
    colors = [LINES[1], LINES[0], *LINES[2:]]
    for axes, (title, curves) in zip(grid, panels.items(), strict=False):
        style(axes)
        for name in (one for one in curves if one not in named):
            axes.plot(*curves[name], color=_FAINT, lw=1)
        for number, name in enumerate(named):
            if name in curves:
                axes.plot(*curves[name], color=colors[number % len(colors)], lw=1.8, label=name)
        axes.set_ylabel(title)
    _legend(grid[0])
    grid[-1].set_xlabel(xlabel)
    return figure


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, labelcolor=INK, fontsize=9)


def learning_curve_plot(
    patients: Sequence[float], values: Sequence[Sequence[float]], means: Sequence[Estimate], ylabel: str
) -> Figure:
    """Draw a metric against the number of training patients (logarithmic), every run a dot, with 95% intervals.

    Args:
        patients: number of training patients of each point.
        values: the metric of each run at each point.
        means: mean and interval of each point.
        ylabel: name of the metric.
    """
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    style(axes)
    for x, own in zip(patients, values, strict=True):
        axes.scatter([x] * len(own), own, s=22, color=LINES[0], alpha=0.45, linewidths=0)
    axes.plot(patients, [mean.value for mean in means], color=LINES[0], lw=1.8)
    known = [(x, mean) for x, mean in zip(patients, means, strict=True) if not math.isnan(mean.low)]
    if known:
        axes.fill_between([x for x, _ in known], [m.low for _, m in known], [m.high for _, m in known], alpha=0.15)
    axes.set_xscale("log")
    axes.set_xticks(list(patients), [f"{x:g}" for x in patients])
    axes.minorticks_off()
    axes.set(xlabel="training patients", ylabel=ylabel)
    return figure


def lines_plot(
    lines: Mapping[str, tuple[ArrayLike, ArrayLike]],
    xlabel: str,
    ylabel: str,
    colors: Sequence[str] = (),
    log: bool = False,
) -> Figure:
    """Draw named lines with a legend.

    Args:
        lines: (x, y) by name.
        xlabel: the horizontal axis.
        ylabel: the vertical axis.
        colors: of the lines; a palette by default.
        log: whether the vertical axis is logarithmic.
    """
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    style(axes)
    palette = list(colors) or [f"C{number}" for number in range(len(lines))]
    for (name, line), color in zip(lines.items(), palette, strict=True):
        axes.plot(*line, color=color, lw=1.5, label=name)
    if log:
        axes.set_yscale("log")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    figure.legend(loc="outside upper left", ncols=min(4, len(lines)), frameon=False, labelcolor=INK, fontsize=9)
    return figure


def small_panels(panels: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike]]], columns: int = 3) -> Figure:
    """Draw a grid of small panels, each with a few lines; the legend is in the first.

    Args:
        panels: (x, y) by line, by panel.
        columns: panels side by side.
    """
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(2.4 * columns, 2.1 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for axes, (title, lines) in zip(grid, panels.items(), strict=False):
        style(axes)
        axes.set_title(title, fontsize=9)
        for number, (name, line) in enumerate(lines.items()):
            axes.plot(*line, color=LINES[number % len(LINES)], lw=1.6, ls="-" if number == 0 else "--", label=name)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    _legend(grid[0])
    return figure
