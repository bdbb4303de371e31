from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from medresnet3d.errors import DataError
from medresnet3d.workflows.answer_log import AnswerLog, flatten
from medresnet3d.workflows.prediction import Prediction

PREDICTION = Prediction(
    "a",
    "classification",
    ("no", "yes"),
    path="/data/a, b.nii",
    patient="P1",
    probabilities={"no": 0.25, "yes": 0.75},
    label="yes",
    position=(1.0, -2.5, 3.0),
    seconds=0.12345,
    warnings=["first", "second"],
)


def test_every_row_is_on_the_disk_at_once(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path / "out", {"bundle": "b"})
    for number in range(1, 4):
        log.add(PREDICTION.answer(), [])
        lines = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
        assert [json.loads(line)["label"] for line in lines] == ["yes"] * number
        assert not (tmp_path / "out" / "predictions.csv").exists()


def test_the_table(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path, {"bundle": "b", "version": "1", "weights": "abc"})
    log.add(Prediction("z", "classification", ("no", "yes"), path="z.nii").answer(), [], "z.nii: broken; mend it.")
    log.add(PREDICTION.answer(), ["a_seg.nii.gz"])
    log.finish()
    with (tmp_path / "predictions.csv").open(newline="") as handle:
        failed, answered = csv.DictReader(handle)
    assert answered["path"] == "/data/a, b.nii"
    assert (answered["probability_no"], answered["probability_yes"]) == ("0.25", "0.75")
    assert (answered["warnings"], answered["position"]) == ("first | second", "1 -2.5 3")
    assert (answered["seconds"], answered["weights"], answered["files"]) == ("0.123", "abc", "a_seg.nii.gz")
    assert (failed["error"], failed["label"], failed["probability_no"]) == ("z.nii: broken; mend it.", "", "")
    assert list(answered)[:4] == ["case", "path", "patient", "label"] and list(answered)[-1] == "error"


def test_a_new_run_replaces_the_old_rows(tmp_path: Path) -> None:
    AnswerLog(tmp_path, {}).add(PREDICTION.answer(), [])
    AnswerLog(tmp_path, {}).finish()
    assert (tmp_path / "predictions.jsonl").read_text() == ""
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 1


def test_the_output_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(DataError, match="is a file, but the answers need a folder"):
        AnswerLog(tmp_path / "out", {})
    with pytest.raises(DataError, match="is a file, but the answers need a folder"):
        AnswerLog(tmp_path / "out" / "below", {})


def test_flatten_keeps_a_value_only_where_there_is_one() -> None:
    assert "value" not in flatten({"value": None})
    assert flatten({"value": 0.0, "volumes_ml": {"CSF": 1.5}}) == {"value": 0.0, "volume_ml_CSF": 1.5}


def test_details_become_columns() -> None:
    details = {"inference": {"strategy": "slabs", "left_out": 0.25, "crop": [[0, 4], [1, 3]], "notes": ["a", "b"]}}
    flat = flatten({"details": {**details, "size": [1, 2], "none": None}})
    assert flat == {
        "details_inference_strategy": "slabs",
        "details_inference_left_out": 0.25,
        "details_inference_notes": "a | b",
        "details_size": "1 2",
        "details_none": "",
    }


def test_detections_are_counted_and_the_most_probable_is_named() -> None:
    found = Prediction("a", "detection", (), detections=np.array([[1.0, -2.5, 3, 8, 0.9], [4, 5, 6, 7, 0.5]]))
    flat = flatten(found.answer())
    assert (flat["detections"], flat["strongest_probability"], flat["strongest_position"]) == (2, 0.9, "1 -2.5 3")
    assert flatten(Prediction("a", "detection", (), detections=np.zeros((0, 5))).answer())["detections"] == 0
    assert "detections" not in flatten(PREDICTION.answer())
