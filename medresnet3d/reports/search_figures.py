"""Figures of a search of hyper-parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from medresnet3d.reports.figures import INK, LINES, style

if TYPE_CHECKING:
    from medresnet3d.reports.search import SearchAxis, SearchTrial

COMPLETE, PRUNED, FAILED = LINES[0], LINES[1], "#c2453d"


def _plot(width: float = 5.0, height: float = 3.2) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    style(axes)
    return figure, axes


def _with_value(trials: Sequence[SearchTrial], state: str) -> list[SearchTrial]:
    chosen = [one for one in trials if one.state == state and one.value is not None]
    return sorted(chosen, key=lambda one: one.number)


def _values(trials: Sequence[SearchTrial]) -> NDArray[np.float64]:
    return np.array([one.value for one in trials], dtype=float)


def history_plot(trials: Sequence[SearchTrial], metric: str, maximise: bool) -> Figure:
    """Draw the value of each trial, with the best so far as a line; failed trials are marked at the lower edge.

    Args:
        trials: the trials.
        metric: name of the metric.
        maximise: whether a larger metric is the better one.
    """
    figure, axes = _plot()
    complete = _with_value(trials, "complete")
    if complete:
        numbers = [one.number for one in complete]
        values = _values(complete)
        best = np.maximum.accumulate(values) if maximise else np.minimum.accumulate(values)
        axes.step(numbers, best, where="post", color=LINES[2], lw=1.8, label="best so far")
        axes.plot(numbers, values, "o", color=COMPLETE, ms=4.5, label="complete")
    pruned = _with_value(trials, "pruned")
    if pruned:
        axes.plot([one.number for one in pruned], _values(pruned), "v", color=PRUNED, ms=4.5, label="pruned")
    failed = [one.number for one in trials if one.state == "failed"]
    if failed:
        edge = axes.get_xaxis_transform()
        axes.plot(failed, [0.02] * len(failed), "x", color=FAILED, ms=6, transform=edge, clip_on=False, label="failed")
    axes.set_xlabel("trial")
    axes.set_ylabel(metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if axes.lines:
        axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    return figure


def curves_plot(trials: Sequence[SearchTrial], metric: str, maximise: bool) -> Figure:
    """Draw the metric of each trial by epoch, the best one strongly, pruned ones dashed.

    Args:
        trials: the trials.
        metric: name of the metric.
        maximise: whether a larger metric is the better one.
    """
    figure, axes = _plot()
    strength = _strength(trials, maximise)
    for one in trials:
        if not one.curve:
            continue
        epochs = sorted(one.curve)
        share = strength.get(one.number, 0.0)
        look: dict[str, Any] = (
            {"color": PRUNED, "ls": "--"} if one.state == "pruned" else {"color": COMPLETE, "ls": "-"}
        )
        look |= {
            "alpha": 0.25 + 0.75 * share,
            "lw": 2.2 if share == 1 else 1.0,
            "marker": "." if len(epochs) == 1 else "",
        }
        axes.plot(epochs, [one.curve[epoch] for epoch in epochs], **look)
    axes.set_xlabel("epoch")
    axes.set_ylabel(metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def slice_plot(trials: Sequence[SearchTrial], axis: SearchAxis, metric: str) -> Figure:
    """Draw the value of each trial against one id.

    Args:
        trials: the trials.
        axis: the id.
        metric: name of the metric.
    """
    figure, axes = _plot(4.2, 2.9)
    for state, color, marker in (("complete", COMPLETE, "o"), ("pruned", PRUNED, "v")):
        chosen = [one for one in _with_value(trials, state) if axis.name in one.values]
        stored = [one.values[axis.name] for one in chosen]
        x = [axis.labels.index(value) for value in stored] if axis.labels else stored
        axes.plot(x, _values(chosen), marker, color=color, ms=4.5, alpha=0.8)
    if axis.labels:
        axes.set_xticks(range(len(axis.labels)), [_short(text) for text in axis.labels])
        axes.set_xlim(-0.5, len(axis.labels) - 0.5)
    elif axis.log:
        axes.set_xscale("log")
    axes.set_xlabel(axis.name)
    axes.set_ylabel(metric)
    return figure


def parallel_plot(trials: Sequence[SearchTrial], axes_of: Sequence[SearchAxis], metric: str, maximise: bool) -> Figure:
    """Draw each complete trial as a line through its values; the better it is, the stronger.

    Args:
        trials: the trials.
        axes_of: the ids, from left to right.
        metric: name of the metric, the last axis.
        maximise: whether a larger metric is the better one.
    """
    complete = [one for one in _with_value(trials, "complete") if all(axis.name in one.values for axis in axes_of)]
    figure, axes = _plot(max(5.0, 1.9 * (len(axes_of) + 1)), 3.4)
    strength = _strength(complete, maximise)
    values = _values(complete)
    low, high = float(values.min()), float(values.max())
    last = np.full(len(values), 0.5) if low == high else (values - low) / (high - low)
    places = np.column_stack([*(_places(complete, axis) for axis in axes_of), last])
    for one, row in sorted(zip(complete, places, strict=True), key=lambda pair: strength[pair[0].number]):
        share = strength[one.number]
        axes.plot(row, color=LINES[2] if share == 1 else COMPLETE, alpha=0.12 + 0.88 * share**2, lw=1 + 1.4 * share)
    columns = range(len(axes_of) + 1)
    axes.set_xticks(columns, [_short(axis.name, 18) for axis in axes_of] + [metric])
    axes.set_yticks([])
    axes.set_ylim(-0.12, 1.12)
    axes.grid(False)
    axes.spines["left"].set_visible(False)
    ends = [_ends(axis) for axis in axes_of] + [(f"{low:.3g}", f"{high:.3g}")]
    for column, (bottom, top) in zip(columns, ends, strict=True):
        axes.axvline(column, color=INK, lw=0.8, alpha=0.5)
        axes.text(column, -0.03, bottom, ha="center", va="top", fontsize=8, color=INK)
        axes.text(column, 1.03, top, ha="center", va="bottom", fontsize=8, color=INK)
    return figure


def _strength(trials: Sequence[SearchTrial], maximise: bool) -> dict[int, float]:
    """Give the complete trials 0 (the worst) to 1 (the best), by rank; of equals the earlier one is the better."""
    sign = 1 if maximise else -1
    ranked = sorted(_with_value(trials, "complete"), key=lambda one: (sign * (one.value or 0.0), -one.number))
    return {one.number: (index + 1) / len(ranked) for index, one in enumerate(ranked)}


def _places(trials: Sequence[SearchTrial], axis: SearchAxis) -> NDArray[np.float64]:
    """Where the trials' values lie between the ends of an axis, 0 to 1."""
    if axis.labels:
        return np.array([axis.labels.index(one.values[axis.name]) for one in trials]) / max(len(axis.labels) - 1, 1)
    values = np.array([one.values[axis.name] for one in trials], dtype=float)
    low, high = axis.low, axis.high
    if axis.log:
        values, low, high = np.log(values), np.log(low), np.log(high)
    return np.asarray((values - low) / (high - low))


def _ends(axis: SearchAxis) -> tuple[str, str]:
    if axis.labels:
        return _short(axis.labels[0]), _short(axis.labels[-1])
    return f"{axis.low:.3g}", f"{axis.high:.3g}"


def _short(text: str, longest: int = 14) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
