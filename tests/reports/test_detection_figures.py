from __future__ import annotations

import numpy as np

from medresnet3d.metrics import Estimate, detection_metrics, froc, match_detections
from medresnet3d.reports import figure_bytes, froc_plot

FINDING = [0.0, 0.0, 0.0, 10.0, 0.0]
SCANS = [
    match_detections([[0, 0, 0, 5, 0.9], [60, 0, 0, 5, 0.8]], [FINDING]),
    match_detections([[0, 0, 0, 5, 0.7]], [FINDING]),
    match_detections([[60, 0, 0, 5, 0.95]], [FINDING]),
]


def test_the_curve_its_rates_and_their_intervals() -> None:
    curve = froc(SCANS)
    figure = froc_plot(curve, detection_metrics(SCANS, "abc", n_boot=50))
    (axes,) = figure.axes
    line = axes.lines[0]
    np.testing.assert_allclose(line.get_ydata(), curve.at(line.get_xdata()))
    dots = [one for one in axes.lines if one.get_marker() == "o"]
    np.testing.assert_allclose([one.get_ydata()[0] for one in dots], curve.at())
    assert len(axes.lines) == 1 + 7 + 7, "the curve, seven intervals, seven dots"
    assert axes.get_xscale() == "log" and axes.get_title().startswith("CPM 0.")
    labels = [axes.xaxis.get_major_formatter()(tick) for tick in axes.xaxis.get_major_locator()()]
    assert labels == ["1/8", "1/4", "1/2", "1", "2", "4", "8"]
    assert figure_bytes(figure).lstrip().startswith(b"<?xml")


def test_without_intervals_there_are_dots_only() -> None:
    assert len(froc_plot(froc(SCANS)).axes[0].lines) == 8
    assert len(froc_plot(froc(SCANS), {"cpm": Estimate(0.5)}).axes[0].lines) == 8
