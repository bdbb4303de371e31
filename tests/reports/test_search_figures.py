from __future__ import annotations

import numpy as np
import pytest

from medresnet3d.reports.html import figure_bytes
from medresnet3d.reports.search import SearchTrial
from medresnet3d.reports.search_figures import curves_plot, history_plot, parallel_plot, slice_plot
from tests.reports.test_search import AXES, trials


@pytest.mark.parametrize("maximise", [True, False])
def test_the_best_so_far_never_gets_worse(maximise: bool) -> None:
    (axes,) = history_plot(trials(), "auc", maximise).axes
    lines = {line.get_label(): line for line in axes.lines}
    best, complete = np.asarray(lines["best so far"].get_ydata()), np.asarray(lines["complete"].get_ydata())
    step = np.diff(best)
    assert (step >= 0).all() if maximise else (step <= 0).all()
    assert best[-1] == (complete.max() if maximise else complete.min())
    assert list(lines["failed"].get_xdata()) == [1]
    assert len(lines["pruned"].get_xdata()) == 3


def test_the_best_curve_is_the_strongest_and_pruned_ones_are_dashed() -> None:
    (axes,) = curves_plot(trials(), "auc", True).axes
    assert sum(line.get_linestyle() == "--" for line in axes.lines) == 3
    strongest = max(axes.lines, key=lambda line: line.get_linewidth())
    assert np.max(strongest.get_ydata()) == max(one.value or 0 for one in trials() if one.state == "complete")


def test_a_slice_has_the_scale_of_its_id() -> None:
    (rate,) = slice_plot(trials(), AXES[0], "auc").axes
    assert rate.get_xscale() == "log"
    (features,) = slice_plot(trials(), AXES[1], "auc").axes
    assert features.get_xscale() == "linear"
    (loss,) = slice_plot(trials(), AXES[2], "auc").axes
    assert [text.get_text() for text in loss.get_xticklabels()] == ["ce", "focal with a …"]
    assert sum(len(line.get_xdata()) for line in loss.lines) == 11  # all but the one that failed


def test_parallel_lines_stand_on_their_axes() -> None:
    (axes,) = parallel_plot(trials(), AXES, "auc", True).axes
    lines = [line for line in axes.lines if len(line.get_xdata()) == 4]
    assert len(lines) == 8
    places = np.array([line.get_ydata() for line in lines])
    assert places.min() >= 0 and places.max() <= 1
    best = max(lines, key=lambda line: line.get_linewidth())
    assert best.get_ydata()[-1] == 1
    assert best.get_ydata()[0] == pytest.approx((np.log10(trials()[11].values["learning_rate"]) + 4) / 4)


def test_equal_values_do_not_divide_by_zero() -> None:
    same = [SearchTrial(n, "complete", 0.5, {"features": 3}) for n in range(3)]
    figure = parallel_plot(same, [AXES[1]], "auc", False)
    assert figure_bytes(figure).startswith(b"<?xml")
    assert figure_bytes(history_plot([], "auc", True)).startswith(b"<?xml")
