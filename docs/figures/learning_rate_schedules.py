"""Figures of the page on learning-rate schedules: the survey's four, and what the names give by default."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt

from medresnet3d.optimizers import FIGURES, SCHEDULES, schedule_curve

STEPS = 400


def survey_figures() -> plt.Figure:
    """Figures 2 to 5 of the survey."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 6), layout="constrained")
    for ax, (number, (title, curves)) in zip(axes.flat, FIGURES.items(), strict=True):
        for curve in curves:
            ax.plot(curve.values(), color=curve.colour, label=curve.label, linewidth=1)
        ax.set(title=f"Figure {number}: {title}", xlabel="iteration", ylabel="learning rate")
        ax.title.set_fontsize(8)
        ax.legend(fontsize=7)
    return figure


def defaults() -> plt.Figure:
    """Every schedule by its name alone, and one with a warm-up."""
    figure, axes = plt.subplots(3, 4, figsize=(9, 6), sharex=True, sharey=True, layout="constrained")
    for ax, name in zip(axes.flat, SCHEDULES, strict=False):
        ax.plot(schedule_curve(name, 1.0, STEPS), linewidth=1)
        ax.set_title(name, fontsize=8)
    axes.flat[-1].plot(schedule_curve("cosine", 1.0, STEPS, warmup=40), linewidth=1)
    axes.flat[-1].set_title("cosine, warmup 40", fontsize=8)
    axes.flat[0].set_ylim(0, 1.5)
    figure.supxlabel("step of 400", fontsize=9)
    figure.supylabel("share of the given learning rate", fontsize=9)
    return figure


def draw(folder: Path) -> None:
    """Write the page's SVG files into ``folder``."""
    with plt.rc_context({"svg.hashsalt": "schedules", "figure.dpi": 100, "font.size": 9, "axes.grid": True}):
        for name, figure in {"survey": survey_figures(), "defaults": defaults()}.items():
            figure.savefig(folder / f"schedules_{name}.svg", metadata={"Date": None})
            plt.close(figure)
