"""Metrics with confidence intervals.

Everything but :class:`Estimate` is loaded on first use, because MONAI takes seconds to import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from medresnet3d.metrics.estimate import Estimate

if TYPE_CHECKING:
    from medresnet3d.metrics.bootstrap import bootstrap_intervals, patient_weights
    from medresnet3d.metrics.calibration import Reliability, reliability
    from medresnet3d.metrics.classification import classification_metrics
    from medresnet3d.metrics.regression import regression_metrics
    from medresnet3d.metrics.segmentation import case_metrics, segmentation_summary, summary_notes

__all__ = [
    "Estimate",
    "Reliability",
    "bootstrap_intervals",
    "case_metrics",
    "classification_metrics",
    "patient_weights",
    "regression_metrics",
    "reliability",
    "segmentation_summary",
    "summary_notes",
]

_HOMES = {
    "Reliability": "calibration",
    "bootstrap_intervals": "bootstrap",
    "case_metrics": "segmentation",
    "classification_metrics": "classification",
    "patient_weights": "bootstrap",
    "regression_metrics": "regression",
    "reliability": "calibration",
    "segmentation_summary": "segmentation",
    "summary_notes": "segmentation",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'medresnet3d.metrics' has no attribute {name!r}")
    return getattr(importlib.import_module(f"medresnet3d.metrics.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
