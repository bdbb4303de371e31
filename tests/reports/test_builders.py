from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medresnet3d.metrics import Estimate
from medresnet3d.reports import evaluation_report, failed_card, inference_report, segmentation_card, training_report
from medresnet3d.reports.builders import classification_figures, metric_table, metric_tiles, records_table, versions
from tests.reports.samples import AFFINE, ball, labels

WHAT = {"bundle": "toy", "version": "0.1.0", "weights": "0123456789abcdef", "command": "medresnet3d infer toy x"}


def test_inference_report_shows_what_was_run_on_what(tmp_path: Path) -> None:
    card = segmentation_card("case_1", ball(), labels(), affine=AFFINE)
    path = inference_report(
        tmp_path,
        what=WHAT,
        cards=[card, failed_card("case_2", "It is truncated.")],
        results=[{"case": "case_1", "seconds": 1.0, "label": None}, {"case": "case_2", "error": "It is truncated."}],
        inputs=["/data/case_1.nii.gz", "/data/case_2.nii.gz"],
        warnings=["Something odd."],
    )
    assert path == tmp_path / "report.html"
    text = path.read_text()
    for words in (
        "toy: 2 cases",
        "medresnet3d infer toy x",
        "0123456789abcdef",
        "/data/case_2.nii.gz",
        "Something odd.",
        "1 of 2 cases could not be processed",
        "It is truncated.",
        "Versions",
        "Research use only. Not for clinical use.",
    ):
        assert words in text


def test_evaluation_report_shows_worst_before_best(tmp_path: Path) -> None:
    metrics = {"auc": Estimate(0.9, 0.8, 0.95, 20), "ece": Estimate(0.1, note="no interval: 2 patients", n=2)}
    rng = np.random.default_rng(0)
    path = evaluation_report(
        tmp_path / "evaluation.html",
        what=WHAT | {"section": "test"},
        metrics=metrics,
        cases=[{"case": "a", "correct": True}],
        figures=classification_figures(rng.dirichlet([1, 1], size=20), np.arange(20) % 2, ["n", "p"]),
        worst=[failed_card("worst case", "x")],
        best=[failed_card("best case", "x")],
        warnings=["3 patients were in the training."],
        method="1000 resamples",
    )
    text = path.read_text()
    assert text.index("worst case</h3>") < text.index("best case</h3>")
    for words in ("0.800 to 0.950", "no interval: 2 patients", "3 patients were in the training.", "1000 resamples"):
        assert words in text
    assert text.count("data:image/svg+xml") == 3


def test_training_report_reads_the_run_folder(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    pd.DataFrame({"epoch": [1, 2], "train_loss": [1.0, 0.5], "val_auc": [np.nan, 0.9]}).to_csv(
        run / "metrics.csv", index=False
    )
    (run / "environment.json").write_text(json.dumps({"seed": 7, "data": {"content_hash": "cafe"}}))
    (run / "config.json").write_text(json.dumps({"network_def": {"_target_": "toy.Net", "width": 16}}))
    path = training_report(run, what=WHAT, results={"auc": Estimate(0.9, 0.8, 1.0), "epochs": 2}, inputs=["/data/a"])
    text = path.read_text()
    assert path == run / "report.html"
    for words in (
        "training curves",
        "data::content_hash",
        "cafe",
        "network_def::width",
        "0.800 to 1.000",
        "Training of toy",
    ):
        assert words in text


def test_training_report_of_a_run_that_has_not_got_far(tmp_path: Path) -> None:
    assert "No step has been recorded yet." in training_report(tmp_path).read_text()
    (tmp_path / "metrics.csv").write_text("epoch,train_loss\n")
    assert "No step has been recorded yet." in training_report(tmp_path).read_text()


def test_metrics_by_structure_become_a_table_and_tiles() -> None:
    summary = {
        "CSF": {"dice": Estimate(0.9, 0.88, 0.92), "hd95_mm": Estimate(2.0)},
        "mean": {"dice": Estimate(0.93, 0.92, 0.94), "hd95_mm": Estimate(1.5)},
    }
    table = metric_table(summary)
    assert list(table.columns) == ["structure", "Dice", "HD95, mm"]
    assert table.rows[1][0] == "mean"
    assert [tile.label for tile in metric_tiles(summary).items] == ["Dice, CSF", "Dice, mean"]


def test_records_table_leaves_empty_columns_out() -> None:
    table = records_table([{"case": "a", "note": None, "volume_ml": 1.0}, {"case": "b", "note": "", "error": "x"}])
    assert list(table.columns) == ["case", "volume ml", "error"]
    assert table.rows == [["a", 1.0, None], ["b", None, "x"]]


@pytest.mark.parametrize("name", ["medresnet3d", "python", "torch", "monai", "numpy", "system"])
def test_versions_name_what_decides_about_results(name: str) -> None:
    assert versions()[name] not in ("", "not installed")
