from __future__ import annotations

import numpy as np
import pytest

from medresnet3d.reports.cohort_figures import UNUSUAL, Spread, class_counts_plot, spread_plot


def test_every_image_is_in_a_bar_and_the_unusual_are_red() -> None:
    values = np.array([1.0, 1.1, 1.2, 1.1, 3.0])
    axes = spread_plot(Spread("spacing", values, (0.9, 1.5))).axes[0]
    bars = [bar for container in axes.containers for bar in container.patches]
    assert sum(bar.get_height() for bar in bars) == len(values)
    red = [bar for bar in bars if bar.get_facecolor()[:3] == pytest.approx((0.761, 0.271, 0.239), abs=0.01)]
    assert UNUSUAL == "#c2453d" and sum(bar.get_height() for bar in red) == 1
    assert len(axes.lines) == 1  # the lower limit is beyond the drawing
    assert axes.get_xscale() == "linear" and axes.get_xlabel() == "spacing"


def test_wide_spreads_are_logarithmic() -> None:
    axes = spread_plot(Spread("range", np.array([1.0, 10.0, 1e5]))).axes[0]
    assert axes.get_xscale() == "log" and not axes.lines
    assert spread_plot(Spread("range", np.array([0.0, 1e5]))).axes[0].get_xscale() == "linear"
    assert spread_plot(Spread("range", np.full(3, 2.0))).axes[0].containers


def test_a_bar_for_each_class_and_section() -> None:
    axes = class_counts_plot({"training": {"a": 3, "b": 5}, "test": {"a": 1, "b": 0}}).axes[0]
    widths = [[bar.get_width() for bar in container.patches] for container in axes.containers]
    assert widths == [[3, 5], [1, 0]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert axes.get_legend() is not None
    assert class_counts_plot({"training": {"a": 3}}).axes[0].get_legend() is None
