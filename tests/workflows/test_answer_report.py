from __future__ import annotations

from pathlib import Path

import numpy as np

from medresnet3d import Predictor
from medresnet3d.workflows.answer_report import MAX_ERROR, AnswerReport
from tests.workflows.tiny_bundles import cube_bundle

POINT = (3.4, -24.2, 43.2)


def test_a_classified_case_shows_what_the_network_saw(classifier: Path, scan: Path, tmp_path: Path) -> None:
    predictor = Predictor(classifier)
    report = AnswerReport(predictor, tmp_path, several=False)
    prediction = predictor(scan, position=POINT, keep_input=report.wants_input)
    report.add(prediction)
    (card,) = report.cards
    assert card.bars is not None and card.bars.values == list(prediction.probabilities.values())
    assert card.badge == prediction.label and card.view is not None
    assert [plane.name for plane in card.view.planes] == ["axial", "coronal", "sagittal"]
    heat = report._heat(prediction)
    assert heat.shape == (16, 16, 16) and 0 <= heat.min() <= heat.max() <= 1 and np.ptp(heat) > 0
    assert not (tmp_path / "cases").exists()


def test_a_regression(tmp_path: Path, scan: Path) -> None:
    predictor = Predictor(cube_bundle(tmp_path / "regressor", regression=True))
    report = AnswerReport(predictor, tmp_path, several=True)
    prediction = predictor(scan, position=POINT, keep_input=report.wants_input)
    report.add(prediction)
    assert f"{prediction.value:.1f}" in report.cards[0].badge
    assert (tmp_path / "cases" / "scan.html").exists()


def test_a_long_error_is_short_in_the_table_and_whole_on_the_card(thresholder: Path, tmp_path: Path) -> None:
    report = AnswerReport(Predictor(thresholder), tmp_path, several=False)
    error = "x" * MAX_ERROR + "END"
    report.add_failed("bad", error)
    page = report.write([{"case": "bad", "path": "bad.nii", "error": error}], seconds=1.0).read_text()
    assert page.count("END") == 1 and "x" * MAX_ERROR + " …" in page
    assert "1 of 1 case could not be processed" in page
