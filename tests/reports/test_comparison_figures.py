from __future__ import annotations

import math

import numpy as np

from medresnet3d.metrics.paired import mean_interval
from medresnet3d.reports.comparison_figures import (
    arms_plot,
    courses_plot,
    heat_map,
    learning_curve_plot,
    lines_plot,
    small_panels,
)
from medresnet3d.reports.html import figure_bytes

VALUES = [[0.6, 0.7, 0.65], [0.8, math.nan, 0.75], [math.nan] * 3]


def texts(svg: bytes) -> str:
    return svg.decode()


def test_arms_that_failed_keep_their_row() -> None:
    figure = arms_plot(["relu", "elu", "tanh"], VALUES, [mean_interval(own) for own in VALUES], "AUC")
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["relu", "elu", "tanh"]
    assert [len(dots.get_offsets()) for dots in axes.collections] == [3, 2, 0]
    assert figure_bytes(figure).startswith(b"<?xml")


def test_a_heat_map_shows_each_mean_and_leaves_failures_empty() -> None:
    table = np.array([[0.5, 0.625], [0.75, math.nan]])
    figure = heat_map(["relu", "elu"], ["cosine", "polynomial"], table, "activation", "schedule")
    (axes,) = figure.axes
    assert sorted(text.get_text() for text in axes.texts) == ["0.500", "0.625", "0.750"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("schedule", "activation")
    assert figure_bytes(heat_map(["a"], ["b", "c"], [[0.5, 0.5]], "x", "y"))
    assert figure_bytes(heat_map(["a"], ["b", "c"], [[math.nan, math.nan]], "x", "y"))


def test_courses_name_the_chosen_arms_only() -> None:
    curve = ([1, 2, 3], [3.0, 2.0, 1.0])
    figure = courses_plot({"loss": {"relu": curve, "elu": curve, "tanh": curve}, "AUC": {}}, ["relu", "elu"])
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["relu", "elu"]
    assert len(axes.lines) == 3


def test_learning_curve_is_logarithmic_in_patients() -> None:
    values = [[0.5, 0.6], [0.7, 0.8]]
    figure = learning_curve_plot([10, 100], values, [mean_interval(own) for own in values], "AUC")
    assert figure.axes[0].get_xscale() == "log"
    assert figure_bytes(figure)


def test_lines_and_panels() -> None:
    curve = ([0, 1], [1.0, 0.1])
    assert lines_plot({"adam": curve}, "step", "rate", log=True).axes[0].get_yscale() == "log"
    figure = small_panels({name: {"value": curve, "derivative": curve} for name in "abcd"})
    shown = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title() for axes in shown] == list("abcd")
    assert all(len(axes.lines) == 2 for axes in shown)
