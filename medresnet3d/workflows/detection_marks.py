"""Detections and findings as marks on the pictures of a report."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medresnet3d.io.detections import change_handedness, detection_rows
from medresnet3d.metrics.detection import FALSE, HIT, IGNORED, MISSED, REPEATED, Matched
from medresnet3d.reports import Mark, MarkedScan

if TYPE_CHECKING:
    from medresnet3d.workflows.prediction import Prediction

DETECTION = "detection"
MISSED_FINDING = "missed"
COLORS = {
    DETECTION: "#E69F00",
    HIT: "#009E73",
    FALSE: "#E69F00",
    MISSED_FINDING: "#FF0066",
    REPEATED: "#56B4E9",
    IGNORED: "#8a8f98",
}


def answer_marks(detections: ArrayLike) -> list[Mark]:
    """Mark the detections of an answer, most probable first.

    Args:
        detections: (N, 5), as :data:`medresnet3d.io.detections.COLUMNS`.
    """
    return [_mark(number, row, DETECTION) for number, row in enumerate(detection_rows(detections), 1)]


def compared_marks(detections: ArrayLike, scan: Matched, findings: NDArray[np.float64]) -> list[Mark]:
    """Mark what was missed, then the detections by what they are.

    Args:
        detections: (N, 5), as for :func:`answer_marks`.
        scan: from :func:`medresnet3d.metrics.match_detections`.
        findings: (F, 5), as given to it.
    """
    known = findings[findings[:, 4] == 0]
    missed = []
    for number, (row, by) in enumerate(zip(known, scan.hit_by, strict=True), 1):
        if by == MISSED:
            x, y, z, diameter = row[:4].tolist()
            facts = {"diameter, mm": diameter}
            missed.append(
                Mark(f"finding {number}", (x, y, z), diameter / 2, COLORS[MISSED_FINDING], MISSED_FINDING, facts)
            )
    rows = zip(detection_rows(detections), scan.kinds, strict=True)
    return [*missed, *(_mark(number, row, kind) for number, (row, kind) in enumerate(rows, 1))]


def _mark(number: int, row: dict[str, float], kind: str) -> Mark:
    facts = {"probability": row["probability"], "diameter, mm": row["diameter_mm"]}
    return Mark(str(number), (row["x"], row["y"], row["z"]), row["diameter_mm"] / 2, COLORS[kind], kind, facts)


def detection_scene(prediction: Prediction, marks: list[Mark]) -> MarkedScan | None:
    """Give the scan with its marks as a report shows it.

    A photograph has no place in a patient: its rows are turned, and its marks stand at pixels.

    Args:
        prediction: with its volume.
        marks: in mm, RAS+.
    """
    volume = prediction.volume
    if volume is None:
        return None
    if volume.source.format != "image":
        return MarkedScan(volume.array, marks, volume.affine)
    last = volume.shape[1] - 1
    moved = []
    for mark in marks:
        column, row, _ = change_handedness(mark.position)[0].tolist()
        facts = {name.replace(", mm", ", pixels"): value for name, value in mark.facts.items()}
        moved.append(replace(mark, position=(column, last - row, 0.0), facts=facts))
    return MarkedScan(volume.array[:, ::-1], moved)
