"""Metrics with confidence intervals.

Everything but :class:`Estimate` is loaded on first use, because MONAI takes seconds to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medresnet3d._lazy import lazy_names
from medresnet3d.metrics.estimate import Estimate

if TYPE_CHECKING:
    from medresnet3d.metrics.bootstrap import bootstrap_intervals, patient_weights
    from medresnet3d.metrics.calibration import Reliability, reliability
    from medresnet3d.metrics.classification import classification_metrics, quadratic_kappa
    from medresnet3d.metrics.confusion import MeanClassAccuracy, QuadraticKappa, TreeDistance
    from medresnet3d.metrics.detection import FROC, Matched, detection_metrics, froc, match_detections
    from medresnet3d.metrics.detection_score import DetectionScore
    from medresnet3d.metrics.regression import regression_metrics
    from medresnet3d.metrics.segmentation import case_metrics, segmentation_summary, summary_notes

__all__ = [
    "FROC",
    "DetectionScore",
    "Estimate",
    "Matched",
    "MeanClassAccuracy",
    "QuadraticKappa",
    "Reliability",
    "TreeDistance",
    "bootstrap_intervals",
    "case_metrics",
    "classification_metrics",
    "detection_metrics",
    "froc",
    "match_detections",
    "patient_weights",
    "quadratic_kappa",
    "regression_metrics",
    "reliability",
    "segmentation_summary",
    "summary_notes",
]

_HOMES = {
    "DetectionScore": "detection_score",
    "FROC": "detection",
    "Matched": "detection",
    "MeanClassAccuracy": "confusion",
    "QuadraticKappa": "confusion",
    "Reliability": "calibration",
    "TreeDistance": "confusion",
    "bootstrap_intervals": "bootstrap",
    "case_metrics": "segmentation",
    "classification_metrics": "classification",
    "detection_metrics": "detection",
    "froc": "detection",
    "match_detections": "detection",
    "patient_weights": "bootstrap",
    "quadratic_kappa": "classification",
    "regression_metrics": "regression",
    "reliability": "calibration",
    "segmentation_summary": "segmentation",
    "summary_notes": "segmentation",
}


__getattr__, __dir__ = lazy_names(__name__, _HOMES)
