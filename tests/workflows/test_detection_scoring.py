"""An evaluation of detection: figures, tables and report against what the balls were drawn to give."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medresnet3d import Predictor
from medresnet3d.data import items
from medresnet3d.errors import DataError
from medresnet3d.workflows.detection_scoring import DetectionScorer
from medresnet3d.workflows.evaluate import evaluate
from tests.workflows.detection_bundle import rows_of, truth


def test_figures_tables_and_report_of_an_evaluation(detector: Path, balls: Path, tmp_path: Path) -> None:
    found = evaluate(detector, balls, tmp_path, n_boot=50)
    # six findings, one too dim; 5 hits at .98, one false positive at .95 in four scans, one detection to be ignored
    assert found["sensitivity"].value == pytest.approx(5 / 6)
    assert found["false_positives_per_scan"].value == pytest.approx(1 / 4)
    assert found["cpm"].value == pytest.approx(5 / 6), "all hits are more probable than the false positive"
    rows = rows_of(tmp_path / "cases.csv")
    assert [(row["findings"], row["found"], row["false_positives"], row["on_excluded"]) for row in rows] == [
        ("2", "2", "0", "1"),
        ("2", "2", "1", "0"),
        ("2", "1", "0", "0"),
        ("0", "0", "0", "0"),
    ]
    findings = rows_of(tmp_path / "findings.csv")
    assert [row["found"] for row in findings] == ["True"] * 5 + ["False"]
    assert (
        float(findings[0]["diameter_mm"]) == 8.0
        and float(findings[0]["distance_mm"]) < 1
        and not findings[5]["distance_mm"]
    )
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["task"] == "detection" and "1 of 4 scans have no finding" in content["warnings"][0]
    report = (tmp_path / "report.html").read_text()
    assert "Free-response ROC" in report and "CPM" in report and 'class="ring"' in report
    assert "1 of 2 found" in report and "missed" in report


def test_tables_for_the_script_of_luna16(detector: Path, balls: Path, tmp_path: Path) -> None:
    evaluate(detector, balls, tmp_path, n_boot=20)
    annotations, excluded = rows_of(tmp_path / "annotations.csv"), rows_of(tmp_path / "annotations_excluded.csv")
    assert len(annotations) == 6 and len(excluded) == 1 and float(excluded[0]["diameter_mm"]) == 8.0
    centre = truth(balls)["scan0"][0] * (-1, -1, 1)
    assert [float(annotations[0][name]) for name in ("coordX", "coordY", "coordZ")] == pytest.approx(centre, abs=1e-3)
    assert (tmp_path / "seriesuids.csv").read_text().split() == ["scan0", "scan1", "scan2", "scan3"]
    assert len(rows_of(tmp_path / "detections.csv")) == 7
    points = rows_of(tmp_path / "froc.csv")
    assert points[0]["threshold"] == "inf" and float(points[-1]["sensitivity"]) == pytest.approx(5 / 6)


def test_detectors_are_compared_by_their_cpm(detector: Path, balls: Path, tmp_path: Path) -> None:
    """The other one keeps what is more probable than all that there is."""
    config = tmp_path / "strict" / "configs" / "inference.json"
    shutil.copytree(detector, tmp_path / "strict")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"threshold": 0.99}))
    found = evaluate(detector, balls, tmp_path / "out", against=[tmp_path / "strict"], n_boot=50)
    assert found.side_by_side is not None and found.side_by_side.figure == "cpm"
    other = found.side_by_side.entrants[1]
    assert other.figures["sensitivity"].value == 0.0 and other.difference is not None
    assert other.difference.value == pytest.approx(-5 / 6) and other.difference.high < 0


def test_a_bundle_of_another_task_is_refused(classifier: Path, balls: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="its task is detection, but classifier is for classification"):
        evaluate(classifier, balls, tmp_path / "out")


def test_a_bundle_without_a_table_of_detections_cannot_be_compared(detector: Path, balls: Path) -> None:
    predictor = Predictor(detector)
    first = items(balls, "test")[0]
    prediction = replace(predictor(first), detections=None)
    with pytest.raises(DataError, match="no table of detections"):
        DetectionScorer(predictor).add(first, prediction)


def test_the_best_scan_has_no_miss_and_then_the_fewest_false_alarms(detector: Path, balls: Path) -> None:
    predictor = Predictor(detector)
    scorer = DetectionScorer(predictor)
    scores = [scorer.add(one, predictor(one)) for one in items(balls, "test")]
    assert scores == [0.0, -0.5, -1.0, 0.0]
    assert scorer.notes() == ["1 of 4 scans have no finding; they count for the false positives only."]


def test_weighted_scans_give_the_figures_of_the_scans_as_often_as_they_weigh(detector: Path, balls: Path) -> None:
    predictor = Predictor(detector)
    scorer = DetectionScorer(predictor)
    for one in items(balls, "test"):
        scorer.add(one, predictor(one))
    statistic = scorer.statistic(["scan2", "scan0"])
    figures = statistic(np.array([[1.0, 1.0], [1.0, 0.0], [2.0, 1.0]]))
    assert figures["sensitivity"] == pytest.approx([3 / 4, 1 / 2, 4 / 6])
