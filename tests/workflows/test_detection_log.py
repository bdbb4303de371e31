from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from medresnet3d.io import Source, Volume
from medresnet3d.workflows.detection_log import MANIFEST, NO_MANIFEST, SUBMISSION, DetectionLog, scan_name
from medresnet3d.workflows.prediction import Prediction

VOLUME = Volume(np.zeros((4, 5, 6)), np.eye(4), None, (), Source(format="dicom", series="1.3.6"))
FOUND = Prediction("a", "detection", (), patient="p1", volume=VOLUME, detections=np.array([[1.0, 2, 3, 8, 0.9]]))


def test_points_go_into_a_manifest_and_into_luna16s_table(tmp_path: Path) -> None:
    log = DetectionLog(tmp_path, "finder", "pseudonym")
    log.add(FOUND, "scans/a.nii")
    log.add(replace(FOUND, case="b", patient=None), ["scans/t1.nii", "scans/t2.nii"])
    assert log.finish() == []
    assert (tmp_path / SUBMISSION).read_text().splitlines()[1:] == ["a,-1.0,-2.0,3.0,0.9", "b,-1.0,-2.0,3.0,0.9"]
    content = json.loads((tmp_path / MANIFEST).read_text())
    first, second = content["test"]
    assert first == {
        "image": str(Path("scans/a.nii").resolve()),
        "patient": "p1",
        "position": [1.0, 2.0, 3.0],
        "detection": 1,
        "diameter_mm": 8.0,
        "probability": 0.9,
    }
    assert [Path(one).name for one in second["image"]] == ["t1.nii", "t2.nii"] and "patient" not in second


def test_pictures_have_no_point_in_a_patient(tmp_path: Path) -> None:
    log = DetectionLog(tmp_path, "finder", "pseudonym")
    log.add(replace(FOUND, volume=replace(VOLUME, source=Source(format="image"))), "a.png")
    log.finish()
    assert (tmp_path / SUBMISSION).is_file() and not (tmp_path / MANIFEST).exists()


def test_answers_of_other_tasks_leave_nothing_and_old_files_go(tmp_path: Path) -> None:
    (tmp_path / SUBMISSION).write_text("old")
    log = DetectionLog(tmp_path, "finder", "none")
    log.add(Prediction("a", "segmentation", ()), "a.nii")
    assert log.finish() == [] and list(tmp_path.iterdir()) == []


def test_no_paths_without_names(tmp_path: Path) -> None:
    log = DetectionLog(tmp_path, "finder", "none")
    log.add(FOUND, "a.nii")
    assert log.finish() == [NO_MANIFEST] and [one.name for one in tmp_path.iterdir()] == [SUBMISSION]


def test_a_series_is_named_by_its_uid_only_where_identifiers_are_kept() -> None:
    assert scan_name(FOUND, "keep") == "1.3.6" and scan_name(FOUND, "pseudonym") == "a"
    assert scan_name(Prediction("b", "detection", ()), "keep") == "b"
