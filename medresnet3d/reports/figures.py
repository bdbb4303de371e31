"""Figures for reports, papers and web pages, drawn with matplotlib's object interface (no windows, no global state)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from medresnet3d.errors import DataError
from medresnet3d.reports.planes import HEAT_LAYER, PALETTE, three_plane_view

if TYPE_CHECKING:
    import pandas as pd

INK = "#75818f"  # grey that can be read on white and on near-black
_BESIDE: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 9}
LINES = ("#0f85b8", "#d9822b", "#1f9d72", "#b55d9a", "#8a8f98")


def three_plane_figure(
    volume: Any,
    spacing: Sequence[float] | None = None,
    overlay: Any | None = None,
    labels: Mapping[int, str] | Sequence[str] | None = None,
    window: str | Sequence[float] | None = None,
    heat: Any | None = None,
    *,
    affine: Any | None = None,
    position: Sequence[float] | None = None,
    title: str = "",
) -> Figure:
    """Draw a volume in axial, coronal and sagittal planes, in true proportions, with an overlay and its legend.

    The same pictures as :func:`~medresnet3d.reports.three_plane_view`, as one figure on black.

    Args:
        volume: values (i, j, k), optionally with a leading channel of length 1.
        spacing: voxel edge lengths in mm when there is no affine.
        overlay: label map of the same shape.
        labels: names of the labels, by number or in order.
        window: CT window by name, or (lowest, highest).
        heat: importance of every voxel.
        affine: 4 x 4 affine to RAS+ mm; gives aspect and orientation letters.
        position: point to cut through and mark, RAS+ mm.
        title: text above the planes.
    """
    layers = {} if overlay is None else {"overlay": overlay}
    view = three_plane_view(
        volume,
        affine=affine,
        spacing=spacing,
        layers=layers,
        heat=heat,
        labels=labels,
        window=window,
        position=position,
        longest=420,
    )
    pictures = [Image.open(io.BytesIO(plane.image)) for plane in view.planes]
    figure = Figure(figsize=(3.4 * len(pictures), 3.9 if view.legend or title else 3.6), facecolor="black")
    grid = figure.subplots(1, len(pictures), squeeze=False, width_ratios=[picture.width for picture in pictures])
    for axes, plane, picture in zip(grid[0], view.planes, pictures, strict=True):
        shown = picture.convert("RGBA")
        for name in (*layers, HEAT_LAYER):
            if name in plane.layers:
                shown = Image.alpha_composite(shown, Image.open(io.BytesIO(plane.layers[name])))
        axes.imshow(np.asarray(shown), interpolation="antialiased")
        axes.set_axis_off()
        axes.set_title(plane.name, color="#b9c2cc", fontsize=9)
        _letters(axes, plane.letters)
        if plane.marker:
            x, y = plane.marker
            axes.plot(x * picture.width, y * picture.height, "o", mfc="none", mec="#ffe08a", ms=16, mew=1.5)
    if view.legend:
        handles = [Patch(color=entry.color, label=entry.name) for entry in view.legend]
        figure.legend(
            handles=handles,
            loc="lower center",
            ncols=min(6, len(handles)),
            frameon=False,
            labelcolor="white",
            fontsize=9,
        )
    if title:
        figure.suptitle(title, color="white", fontsize=11)
    return figure


def _letters(axes: Axes, letters: Sequence[str]) -> None:
    places = [(0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center")]
    places += [(0.5, 0.98, "center", "top"), (0.5, 0.02, "center", "bottom")]
    look: dict[str, Any] = {"color": "#ffe08a", "fontsize": 9, "weight": "bold"}
    for letter, (x, y, across, down) in zip(letters, places, strict=True):
        axes.text(x, y, letter, transform=axes.transAxes, ha=across, va=down, **look)


def plot(width: float = 5.0, height: float = 3.4) -> tuple[Figure, Axes]:
    """Give an empty plot in the look of the reports."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    style(axes)
    return figure, axes


def style(axes: Axes) -> None:
    """Give axes the look of the reports: quiet lines that can be read on a light and on a dark page."""
    axes.patch.set_alpha(0.0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK)
    axes.tick_params(colors=INK, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.title.set_color(INK)
    axes.grid(True, color=INK, alpha=0.18, linewidth=0.8)
    axes.set_axisbelow(True)


def training_curves(metrics_csv: str | Path | pd.DataFrame) -> Figure:
    """Draw the course of a training: losses in the upper panel, other metrics in the lower one.

    Args:
        metrics_csv: table with one row a step; the first of the columns epoch, iteration, step (else the row number) is
            the horizontal axis, columns with "loss" in their names are losses; learning rates and times are left out.

    Raises:
        DataError: if the table cannot be read or holds no figures.
    """
    table = _read_table(metrics_csv)
    x_name = next((name for name in ("epoch", "iteration", "step") if name in table.columns), None)
    numbers = table.drop(columns=[x_name] if x_name else []).select_dtypes("number").dropna(axis=1, how="all")
    left_out = ("iteration", "step", "epoch", "lr", "learning_rate", "seconds", "time", "wall_time")
    names = [name for name in numbers.columns if name.lower() not in left_out]
    if not names:
        raise DataError("the metrics table holds no figures; expected columns such as epoch, loss, val_mean_dice.")
    losses = [name for name in names if "loss" in name.lower()]
    panels = [losses, [name for name in names if name not in losses]]
    panels = [panel for panel in panels if panel]
    figure = Figure(figsize=(7.2, 2.5 * len(panels) + 0.3), layout="constrained")
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    x = table[x_name] if x_name else table.index + 1
    for axes, panel in zip(grid, panels, strict=True):
        style(axes)
        for name, color in zip(panel, LINES * (1 + len(panel) // len(LINES)), strict=False):
            known = numbers[name].notna()
            mark = "o" if known.sum() <= 30 else None
            axes.plot(x[known], numbers[name][known], color=color, label=name.replace("_", " "), marker=mark, ms=3.5)
        axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    grid[-1].set_xlabel(x_name or "row")
    grid[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _read_table(source: str | Path | pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    if isinstance(source, pd.DataFrame):
        return source
    try:
        return pd.read_csv(source)
    except (OSError, ValueError) as error:
        raise DataError(f"{source}: the metrics table cannot be read ({error}).") from error


def roc_plot(prob: NDArray[Any], label: NDArray[Any], names: Sequence[str] | None = None) -> Figure:
    """Draw the receiver operating characteristic: of class 1 for two classes, of each class against the rest otherwise.

    Args:
        prob: probabilities (N, C).
        label: class numbers (N,).
        names: class names.
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    prob, label = np.asarray(prob, dtype=float), np.asarray(label).astype(int)
    figure, axes = plot(4.2, 4.0)
    classes = [1] if prob.shape[1] == 2 else range(prob.shape[1])
    names = names or [f"class {index}" for index in range(prob.shape[1])]
    axes.plot([0, 1], [0, 1], color=INK, lw=1, ls=":")
    for number, index in enumerate(classes):
        truth = label == index
        if truth.all() or not truth.any():
            continue
        false_rate, true_rate, _ = roc_curve(truth, prob[:, index])
        area = roc_auc_score(truth, prob[:, index])
        axes.plot(false_rate, true_rate, color=LINES[number % len(LINES)], lw=2, label=f"{names[index]}: {area:.3f}")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    if axes.get_legend_handles_labels()[0]:
        key = axes.legend(frameon=False, labelcolor=INK, fontsize=9, loc="lower right", title="area under the curve")
        key.get_title().set_color(INK)
    return figure


def reliability_plot(prob: NDArray[Any], label: NDArray[Any], bins: int = 10) -> Figure:
    """Draw how often the answer is right for each level of confidence; on the diagonal the probabilities are honest.

    Args:
        prob: probabilities (N, C).
        label: class numbers (N,).
        bins: number of equal-width bins of confidence.
    """
    from medresnet3d.metrics.calibration import reliability

    curve = reliability(prob, label, bins)
    figure, axes = plot(4.2, 4.0)
    axes.plot([0, 1], [0, 1], color=INK, lw=1, ls=":")
    largest = max(1, int(curve.count.max()))
    sizes = 30 + 170 * curve.count / largest
    axes.plot(curve.confidence, curve.accuracy, color=LINES[0], lw=1.5)
    axes.scatter(curve.confidence, curve.accuracy, s=sizes, color=LINES[0], alpha=0.75, linewidths=0)
    for x, y, count in zip(curve.confidence, curve.accuracy, curve.count, strict=True):
        look: dict[str, Any] = {"textcoords": "offset points", "xytext": (0, 9), "fontsize": 8, "color": INK}
        axes.annotate(str(int(count)), (x, y), ha="center", **look)
    axes.set(xlabel="probability given to the answer", ylabel="share of right answers", aspect="equal")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.06, 1.1))
    return figure


def confusion_plot(matrix: NDArray[Any], names: Sequence[str]) -> Figure:
    """Draw a confusion matrix: rows are the truth, columns the answers; shades are shares of the row.

    Args:
        matrix: counts (C, C).
        names: class names.
    """
    matrix = np.asarray(matrix, dtype=float)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1.0)
    size = 1.7 + 0.75 * len(names)
    figure, axes = plot(size + 0.7, size)
    axes.grid(False)
    axes.pcolormesh(share, cmap="Blues", vmin=0.0, vmax=1.0, edgecolors="#ffffff", linewidth=1.5)
    axes.invert_yaxis()
    for row in range(len(names)):
        for column in range(len(names)):
            color = "white" if share[row, column] > 0.55 else "#1b2430"
            text = f"{int(matrix[row, column])}\n{100 * share[row, column]:.0f}%"
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=color, fontsize=9)
    ticks = np.arange(len(names)) + 0.5
    axes.set_xticks(ticks, names, rotation=0 if max(map(len, names)) < 11 else 30, ha="center")
    axes.set_yticks(ticks, names)
    axes.set(xlabel="answer", ylabel="truth", aspect="equal")
    axes.tick_params(length=0)
    return figure


def agreement_plot(predicted: NDArray[Any], truth: NDArray[Any], unit: str = "") -> Figure:
    """Draw predicted against true values of a regression with the line of identity."""
    predicted, truth = np.asarray(predicted, dtype=float), np.asarray(truth, dtype=float)
    figure, axes = plot(4.2, 4.0)
    ends = [float(min(predicted.min(), truth.min())), float(max(predicted.max(), truth.max()))]
    axes.plot(ends, ends, color=INK, lw=1, ls=":")
    axes.scatter(truth, predicted, s=24, color=LINES[0], alpha=0.7, linewidths=0)
    suffix = f" ({unit})" if unit else ""
    axes.set(xlabel=f"truth{suffix}", ylabel=f"answer{suffix}")
    return figure


def bland_altman_plot(predicted: NDArray[Any], truth: NDArray[Any], unit: str = "") -> Figure:
    """Draw the difference of every case over its truth, the mean difference and the 95% limits of agreement.

    J. M. Bland, D. G. Altman. Statistical methods for assessing agreement between two methods of clinical measurement.
    Lancet 327 (1986). The horizontal axis is the truth, not the mean of the two, since the truth is not a second
    measurement here; a lean to the mean shows as a slope. The limits are mean +- 1.96 standard deviations, drawn from
    two cases on.
    """
    predicted, truth = np.asarray(predicted, dtype=float), np.asarray(truth, dtype=float)
    difference = predicted - truth
    figure, axes = plot(5.2, 3.6)
    axes.scatter(truth, difference, s=24, color=LINES[0], alpha=0.7, linewidths=0)
    mean = float(difference.mean())
    lines = [(mean, "-")]
    if len(difference) > 1:
        reach = 1.96 * float(difference.std(ddof=1))
        lines += [(mean - reach, "--"), (mean + reach, "--")]
    for height, style in lines:
        axes.axhline(height, color=INK, lw=1, ls=style)
        axes.annotate(
            f"{height:+.1f}", (1, height), xycoords=("axes fraction", "data"), xytext=(3, 0), **_BESIDE, color=INK
        )
    suffix = f" ({unit})" if unit else ""
    axes.set(xlabel=f"truth{suffix}", ylabel=f"answer less truth{suffix}")
    return figure


def class_bars(names: Sequence[str], values: Sequence[Sequence[float]], xlabel: str) -> Figure:
    """Draw the spread of a per-case figure for each class: every case a dot, the mean a bar.

    Args:
        names: class names.
        values: one sequence of figures a class; NaN is left out.
        xlabel: what the figures are.
    """
    figure, axes = plot(6.4, 0.9 + 0.55 * len(names))
    for row, (name, given) in enumerate(zip(names, values, strict=True)):
        here = np.asarray(given, dtype=float)
        here = here[np.isfinite(here)]
        if not here.size:
            continue
        color = PALETTE[row % len(PALETTE)]
        offsets = (np.arange(here.size) * 0.618034 % 1.0 - 0.5) * 0.5
        axes.scatter(here, row + offsets, s=18, color=color, alpha=0.75, linewidths=0, label=name)
        axes.plot([here.mean()] * 2, [row - 0.36, row + 0.36], color=INK, lw=2)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.set_xlabel(xlabel)
    return figure
