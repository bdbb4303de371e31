"""Figures of a cohort: how sizes, spacings and intensities are spread, and how many entries each class has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from medresnet3d.reports.figures import INK, LINES, style

BINS = 30
WIDE = 20.0
"""Values that differ by more than this factor are drawn on a logarithmic axis."""
UNUSUAL = "#c2453d"


@dataclass(frozen=True)
class Spread:
    """A number of every image.

    Attributes:
        name: what it is, with its unit.
        values: (n,), finite.
        limits: smallest and largest usual value, if they are known.
    """

    name: str
    values: NDArray[np.float64]
    limits: tuple[float, float] | None = None


def spread_plot(spread: Spread) -> Figure:
    """Draw the histogram of a number, with the limits of the usual as dotted lines and what is beyond them in red."""
    figure = Figure(figsize=(4.2, 2.5), layout="constrained")
    axes = figure.subplots()
    style(axes)
    values = spread.values
    low, high = float(values.min()), float(values.max())
    logarithmic = low > 0 and high > WIDE * low
    if logarithmic:
        bins = np.geomspace(low, high, BINS + 1)
        axes.set_xscale("log")
    else:
        margin = 0.5 if low == high else 0.0
        bins = np.linspace(low - margin, high + margin, BINS + 1)
    first, last = spread.limits or (-math.inf, math.inf)
    usual = (values >= first) & (values <= last)
    axes.hist([values[usual], values[~usual]], bins=bins.tolist(), stacked=True, color=[LINES[0], UNUSUAL])
    for limit in (first, last):
        if bins[0] <= limit <= bins[-1]:
            axes.axvline(limit, color=INK, lw=1.2, ls=":")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    axes.set(xlabel=spread.name, ylabel="images")
    return figure


def class_counts_plot(classes: Mapping[str, Mapping[str, int]]) -> Figure:
    """Draw the number of entries of each class, a bar for each section.

    Args:
        classes: number of entries by section and class.
    """
    names = list(next(iter(classes.values())))
    height = 0.8 / len(classes)
    figure = Figure(figsize=(6.4, 0.9 + 0.22 * len(names) * (1 + len(classes))), layout="constrained")
    axes = figure.subplots()
    style(axes)
    for index, (section, counts) in enumerate(classes.items()):
        places = np.arange(len(names)) + (index - (len(classes) - 1) / 2) * height
        bars = axes.barh(places, [counts[name] for name in names], height, color=LINES[index], label=section)
        axes.bar_label(bars, padding=3, color=INK, fontsize=8)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("entries")
    if len(classes) > 1:
        axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    return figure
