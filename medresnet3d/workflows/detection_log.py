"""What a run of detection leaves over all cases: LUNA16's table of detections, and a manifest of the points found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medresnet3d.io import atomic_write_text
from medresnet3d.io.detections import SUBMISSION_COLUMNS, detection_rows, submission_rows, write_table

if TYPE_CHECKING:
    from medresnet3d.workflows.prediction import Prediction

SUBMISSION = "detections.csv"
MANIFEST = "detections_manifest.json"
NO_MANIFEST = f"No {MANIFEST} was written, since it would name the inputs (--phi none)."


def scan_name(prediction: Prediction, phi: str) -> str:
    """What names a scan in LUNA16's table: its case (of an MHD file of LUNA16 the series UID).

    Args:
        prediction: the answer.
        phi: with ``"keep"`` a DICOM series is named by its SeriesInstanceUID instead.
    """
    series = prediction.volume.source.series if prediction.volume is not None else None
    return series if series and phi == "keep" else prediction.case


class DetectionLog:
    """Collects the detections of a run.

    ``detections.csv`` has LUNA16's submission format (mm, LPS+, as MetaImage files count). ``detections_manifest.json``
    lists every detection in a volume as a case of its own with its ``position`` (mm, RAS+), so that a bundle that
    classifies points of a scan takes it as its input.

    Args:
        output: the output folder; files of an earlier run in it are removed.
        bundle: name of the bundle.
        phi: as for :func:`medresnet3d.workflows.infer.infer`; with ``"none"`` there is no manifest.
    """

    def __init__(self, output: Path, bundle: str, phi: str) -> None:
        self.output = output
        self.bundle = bundle
        self.phi = phi
        self.rows: list[dict[str, Any]] = []
        self.points: list[dict[str, Any]] = []
        self.is_detection = False
        for name in (SUBMISSION, MANIFEST):
            (output / name).unlink(missing_ok=True)

    def add(self, prediction: Prediction, path: str | list[str]) -> None:
        """Add the detections of a case.

        Args:
            prediction: its answer.
            path: its input, or one for each modality.
        """
        if prediction.detections is None:
            return
        self.is_detection = True
        self.rows += submission_rows(scan_name(prediction, self.phi), prediction.detections)
        if prediction.volume is None or prediction.volume.source.format == "image":
            return
        parts = [str(Path(one).resolve()) for one in ([path] if isinstance(path, str) else path)]
        image = parts[0] if isinstance(path, str) else parts
        patient = {"patient": prediction.patient} if prediction.patient else {}
        for number, row in enumerate(detection_rows(prediction.detections), 1):
            position = [row.pop(axis) for axis in "xyz"]
            self.points.append({"image": image, **patient, "position": position, "detection": number, **row})

    def finish(self) -> list[str]:
        """Write the files, if there was an answer of detections, and give what a person should know of them."""
        if not self.is_detection:
            return []
        write_table(self.rows, SUBMISSION_COLUMNS, self.output / SUBMISSION)
        if self.phi == "none":
            return [NO_MANIFEST]
        if self.points:
            content = {"name": f"detections of {self.bundle}", "task": "classification", "test": self.points}
            atomic_write_text(self.output / MANIFEST, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        return []
