"""Comparison of detections with findings: rows of scans and findings, FROC, and the tables of the LUNA16 script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medresnet3d.errors import DataError
from medresnet3d.io.detections import (
    SUBMISSION_COLUMNS,
    change_handedness,
    findings_table,
    submission_rows,
    table_text,
)
from medresnet3d.metrics import Estimate, Matched, detection_metrics, froc, match_detections
from medresnet3d.metrics.bootstrap import Statistic
from medresnet3d.metrics.detection import (
    FALSE,
    IGNORED,
    MISSED,
    RECORD_COLUMNS,
    REPEATED,
    detection_records,
    weighted_metrics,
)
from medresnet3d.reports import CaseCard, Figure, detection_card, froc_plot
from medresnet3d.workflows.detection_marks import compared_marks, detection_scene
from medresnet3d.workflows.prediction import Prediction
from medresnet3d.workflows.predictor import Predictor
from medresnet3d.workflows.scoring import Scorer

ANNOTATION_COLUMNS = ("seriesuid", "coordX", "coordY", "coordZ", "diameter_mm")
FINDING_TABLE = ("case", "patient", *RECORD_COLUMNS)


class DetectionScorer(Scorer):
    """Compares detections with the findings of a manifest; see :mod:`medresnet3d.metrics.detection`."""

    def __init__(self, predictor: Predictor) -> None:
        self.rows: list[dict[str, Any]] = []
        self._modality = str(predictor.metadata.get("modality") or "")
        self._scans: list[Matched] = []
        self._findings: list[dict[str, Any]] = []
        self._tables: dict[str, list[dict[str, Any]]] = {"detections": [], "annotations": [], "excluded": []}
        self._estimates: dict[str, Estimate] = {}

    def add(self, item: Mapping[str, Any], prediction: Prediction) -> float:
        """Compare one scan with its findings; the best have no miss, then the fewest false alarms."""
        if prediction.detections is None:
            raise DataError("the bundle gives no table of detections that could be compared with findings.")
        findings = _findings(item)
        scan = match_detections(prediction.detections, findings)
        missed = int((scan.hit_by == MISSED).sum())
        false = len(scan.false_scores)
        who = {"case": prediction.case, "patient": str(item.get("patient") or "")}
        self._scans.append(scan)
        self.rows.append(
            {
                **who,
                "findings": len(scan.hit_by),
                "found": len(scan.hit_by) - missed,
                "detections": len(scan.kinds),
                "false_positives": false,
                "repeated": scan.kinds.count(REPEATED),
                "on_excluded": scan.kinds.count(IGNORED),
            }
        )
        self._findings += [{**who, **row} for row in detection_records(scan, findings, prediction.detections)]
        self._tables["detections"] += submission_rows(prediction.case, prediction.detections)
        self._tables["annotations"] += _annotations(prediction.case, findings[findings[:, 4] == 0])
        self._tables["excluded"] += _annotations(prediction.case, findings[findings[:, 4] > 0])
        return -(missed + false / (1 + false))

    def metrics(self, n_boot: int, seed: int) -> dict[str, Any]:
        """Give CPM and sensitivities with intervals over patients."""
        patients = [row["patient"] or row["case"] for row in self.rows]
        self._estimates = detection_metrics(self._scans, patients, n_boot=n_boot, seed=seed)
        return dict(self._estimates)

    def statistic(self, cases: Sequence[str]) -> Statistic:
        """Give CPM, sensitivities, ... of weighted scans."""
        scans = {row["case"]: scan for row, scan in zip(self.rows, self._scans, strict=True)}
        return weighted_metrics([scans[case] for case in cases])

    def figures(self) -> list[Figure]:
        """Draw the FROC curve with the intervals at the rates that make the CPM."""
        caption = (
            "Free-response ROC: share of the findings that are hit, against false positives a scan; dots are the rates "
            "that the CPM is the mean of, with 95% intervals."
        )
        return [Figure(froc_plot(froc(self._scans), self._estimates), caption)]

    def notes(self) -> list[str]:
        """Say what the figures rest on."""
        count = len(self._findings)
        empty = sum(row["findings"] == 0 for row in self.rows)
        notes = [] if count else ["No scan has a finding, so that CPM and sensitivities are undefined."]
        if count and empty:
            notes.append(f"{empty} of {len(self.rows)} scans have no finding; they count for the false positives only.")
        return notes

    def files(self) -> dict[str, str]:
        """Give the further tables by file name.

        ``findings.csv`` and ``froc.csv`` are for people; ``detections.csv``, ``annotations.csv``,
        ``annotations_excluded.csv`` and ``seriesuids.csv`` are what LUNA16's own script reads.
        """
        curve = froc(self._scans)
        points = zip(curve.false_positives, curve.sensitivity, curve.thresholds, strict=True)
        columns = ("false_positives_per_scan", "sensitivity", "threshold")
        return {
            "findings.csv": table_text(self._findings, FINDING_TABLE),
            "froc.csv": table_text([dict(zip(columns, map(float, point), strict=True)) for point in points], columns),
            "detections.csv": table_text(self._tables["detections"], SUBMISSION_COLUMNS),
            "annotations.csv": table_text(self._tables["annotations"], ANNOTATION_COLUMNS),
            "annotations_excluded.csv": table_text(self._tables["excluded"], ANNOTATION_COLUMNS),
            "seriesuids.csv": "".join(f"{row['case']}\n" for row in self.rows),
        }

    def card(self, item: Mapping[str, Any], prediction: Prediction) -> CaseCard:
        """Show what was hit, what was missed, and what is a false alarm."""
        assert prediction.detections is not None
        scan = match_detections(prediction.detections, _findings(item))
        marks = compared_marks(prediction.detections, scan, _findings(item))
        found = int((scan.hit_by != MISSED).sum())
        return detection_card(
            prediction.case,
            detection_scene(prediction, marks),
            rows={"false positives": scan.kinds.count(FALSE)},
            warnings=prediction.warnings,
            modality=self._modality or None,
            badge=f"{found} of {len(scan.hit_by)} found",
            tone="good" if found == len(scan.hit_by) else "bad",
        )


def _findings(item: Mapping[str, Any]) -> NDArray[np.float64]:
    return findings_table(item["boxes"], item.get("excluded_boxes") or ())


def _annotations(scan: str, findings: NDArray[np.float64]) -> list[dict[str, Any]]:
    places = change_handedness(findings[:, :3])
    return [
        dict(zip(ANNOTATION_COLUMNS, (scan, *place.round(4).tolist(), round(float(row[3]), 4)), strict=True))
        for place, row in zip(places, findings, strict=True)
    ]
