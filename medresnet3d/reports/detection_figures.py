"""Figures of a detection: the free-response ROC."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from medresnet3d.metrics.detection import FROC, RATES, rate_name
from medresnet3d.metrics.estimate import Estimate
from medresnet3d.reports.figures import LINES, plot

_FRACTIONS = {0.125: "1/8", 0.25: "1/4", 0.5: "1/2"}


def froc_plot(curve: FROC, estimates: Mapping[str, Estimate] | None = None) -> Figure:
    """Draw sensitivity against false positives a scan, on LUNA16's axis from 1/8 to 8.

    Args:
        curve: from :func:`medresnet3d.metrics.froc`.
        estimates: from :func:`medresnet3d.metrics.detection_metrics`; intervals at the rates, and the CPM in the title.
    """
    figure, axes = plot()
    rates = np.geomspace(RATES[0], RATES[-1], 400)
    axes.plot(rates, curve.at(rates), color=LINES[0], lw=1.8)
    known = estimates or {}
    for rate, value in zip(RATES, curve.at(), strict=True):
        estimate = known.get(rate_name(rate), Estimate(float(value)))
        if np.isfinite([estimate.low, estimate.high]).all():
            axes.plot([rate, rate], [estimate.low, estimate.high], color=LINES[0], lw=1.2, alpha=0.7)
        axes.plot(rate, value, "o", color=LINES[0], ms=4.5)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(list(RATES)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _FRACTIONS.get(value, f"{value:g}")))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="false positives per scan", ylabel="sensitivity", ylim=(-0.02, 1.02))
    if "cpm" in known:
        axes.set_title(f"CPM {known['cpm']}", fontsize=10)
    return figure
