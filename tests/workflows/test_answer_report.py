from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medresnet3d import Predictor
from medresnet3d.inferers.report import InferenceReport
from medresnet3d.io import Volume, load
from medresnet3d.workflows.answer_report import MAX_ERROR, AnswerReport, modality_of
from medresnet3d.workflows.prediction import Prediction
from tests.reports.devtools import CHROMIUM, Browser
from tests.workflows.conftest import save_scan
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
    assert heat is not None and heat.shape == (16, 16, 16) and 0 <= heat.min() <= heat.max() <= 1 and np.ptp(heat) > 0
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


@pytest.mark.parametrize(
    ("metadata", "modality"),
    [
        ({"modality": "MR T1"}, "MR T1"),
        ({"network_data_format": {"inputs": {"image": {"type": "image", "modality": "CT"}}}}, "CT"),
        ({"network_data_format": {"inputs": {"image": {"type": "image"}}}}, None),
        ({"network_data_format": {"inputs": []}}, None),
        ({"network_data_format": "?"}, None),
        ({}, None),
    ],
)
def test_the_modality_that_a_bundle_is_for(metadata: dict[str, object], modality: str | None) -> None:
    assert modality_of(metadata) == modality


def segmented(bundle: Path, folder: Path, cases: int) -> Path:
    """Answer scans and one file that is none, and give the report."""
    predictor = Predictor(bundle)
    report = AnswerReport(predictor, folder, several=cases > 1)
    rows = []
    for number in range(cases):
        save_scan(folder / f"scan {number}.nii.gz", number)
        prediction = predictor(folder / f"scan {number}.nii.gz")
        prediction.case, prediction.warnings = f"scan #{number}", [f"Repair {number}."]
        prediction.stage_seconds = {"reading": 0.25, "network": 1.5 + number}
        report.add(prediction)
        rows.append({**prediction.answer(), "error": None})
    if cases > 1:
        report.add_failed("bad", "It is damaged.")
        rows.insert(0, {"case": "bad", "path": "bad.nii", "error": "It is damaged.", "seconds": None, "warnings": []})
    return report.write(rows, seconds=4.0)


def test_one_case_can_be_scrolled_in_the_report_itself(thresholder: Path, tmp_path: Path) -> None:
    page = segmented(thresholder, tmp_path, 1).read_text()
    assert "class Viewer" in page and 'data-part="image"' in page
    assert not (tmp_path / "cases").exists()


def test_several_cases_are_a_table_that_leads_to_their_pages(thresholder: Path, tmp_path: Path) -> None:
    page = segmented(thresholder, tmp_path, 3).read_text()
    assert 'data-part="image"' not in page  # the voxels are in the cases' own pages
    assert page.count('href="cases/scan%20%231.html"') >= 3
    titles = re.findall(r"<th[^>]*><button type=\"button\">([^<]*)<", page)
    assert titles[:8] == [
        "case", "error", "warnings", "bright, ml", "bright, axial mm", "reading, s", "network, s", "total, s",
    ]  # fmt: skip
    assert "Repair 2." in page and "1 of 4 cases could not be processed" in page
    stages = page[page.index("Time by stage</h2>") :]
    cells = re.findall(r'<td[^>]*data-sort="([^"]*)"', stages)[:8]
    assert cells == ["reading", "0.75", "0.25", "0.25", "network", "7.5", "2.5", "3.5"]
    case = (tmp_path / "cases" / "scan #1.html").read_text()
    assert 'data-part="image"' in case and 'href="../report.html"' in case


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_click_on_a_case_opens_its_slices(thresholder: Path, tmp_path: Path) -> None:
    path = segmented(thresholder, tmp_path, 2)
    with Browser(tmp_path / "profile") as browser:
        browser.open(path, 1280, 900)
        browser.click("table.sortable th:nth-child(4) button")
        browser.click("table.sortable th:nth-child(4) button")
        order = (
            "[...document.querySelectorAll('table.sortable')[0].tBodies[0].rows].map((row) => row.cells[3].innerText)"
        )
        volumes = browser.evaluate(order)
        assert float(volumes[0]) >= float(volumes[1]) and len(volumes) == 3
        browser.follow("table.sortable tbody tr:first-child a")
        browser.wait("document.querySelector('.viewer-frame')?.viewer?.root.dataset.drawn")
        browser.wheel(".pane[data-plane='0'] canvas", 120)
        assert browser.evaluate("document.querySelector('.pane output').textContent").startswith("slice ")
        browser.follow(".back a")
        assert browser.evaluate("document.title.includes('3 cases')")
        assert browser.problems == [] and browser.requests == []


def test_a_colour_picture_is_shown_as_it_is(thresholder: Path, tmp_path: Path) -> None:
    array = np.zeros((30, 20, 1, 3), dtype=np.uint8)
    array[..., 0] = 200
    volume = Volume(array, np.diag([-1.0, -1.0, 1.0, 1.0]))
    pred = np.zeros((30, 20, 1), dtype=np.uint8)
    pred[5:9, 5:9] = 1
    report = AnswerReport(Predictor(thresholder), tmp_path, several=False)
    report.add(Prediction("picture", "segmentation", ("", "spot"), pred=pred, affine=volume.affine, volume=volume))
    (card,) = report.cards
    assert card.viewer is None and card.view is not None and "spot, ml" in card.rows
    assert np.asarray(Image.open(io.BytesIO(card.view.planes[0].image)))[3, 3].tolist() == [200, 0, 0]


def test_an_answer_that_cannot_be_drawn_is_still_reported(thresholder: Path, tmp_path: Path) -> None:
    volume = Volume(np.zeros((5, 5, 5), dtype=np.uint8), np.diag([1.0, 1.0, 0.0, 1.0]))
    pred = np.ones((5, 5, 5), dtype=np.uint8)
    report = AnswerReport(Predictor(thresholder), tmp_path, several=True)
    report.add(Prediction("flat", "segmentation", ("", "x"), pred=pred, affine=volume.affine, volume=volume))
    assert "No pictures can be shown: " in report.cards[0].warnings[-1]
    assert (tmp_path / "cases" / "flat.html").exists()


def test_a_mask_beside_the_answer_is_an_overlay_of_its_own(thresholder: Path, tmp_path: Path) -> None:
    save_scan(tmp_path / "scan.nii.gz")
    prediction = Predictor(thresholder)(tmp_path / "scan.nii.gz")
    assert prediction.pred is not None
    prediction.images = {"core": prediction.pred > 0, "score": np.full(prediction.pred.shape, 0.5)}
    report = AnswerReport(Predictor(thresholder), tmp_path, several=False)
    report.add(prediction)
    viewer = report.cards[0].viewer
    assert viewer is not None and [layer.name for layer in viewer.layers] == ["prediction", "core"]
    assert [one.name for one in viewer.structures] == ["bright", "core"]
    assert viewer.structures[1].volumes_ml["prediction"] == 0 < viewer.structures[1].volumes_ml["core"]


def test_an_answer_of_another_kind_shows_the_image_that_was_made(thresholder: Path, tmp_path: Path) -> None:
    save_scan(tmp_path / "scan.nii.gz")
    made = load(tmp_path / "scan.nii.gz")
    prediction = Prediction("scan", "conversion", (), affine=made.affine, volume=made)
    inference = InferenceReport("windows", "bf16", windows_total=9, windows_run=4, left_out=0.25, views=2)
    prediction.details = {
        "inference": inference.as_dict(),
        "numbers": list(range(200)),
        "scores": {"a_b": 0.5, "c": None},
    }
    report = AnswerReport(Predictor(thresholder), tmp_path, several=False)
    report.add(prediction)
    prediction.images = {"smooth": made.array * 2.5}
    report.add(prediction)
    for card in report.cards:
        assert card.viewer is not None and card.viewer.layers == []
        assert card.rows["numbers"].endswith("…") and card.rows["scores"] == "a b 0.500"
        assert card.rows["computed"] == (
            "windows, 4 of 9 windows, 25.0% of the scan left out as background, 2 mirrored or turned views, bf16, torch"
        )
    first, second = (card.viewer.values[-1] for card in report.cards if card.viewer is not None)
    assert second == pytest.approx(2.5 * first, rel=1e-3)
    assert "smooth" in report.cards[1].rows["shown"]
    page = report.write([{**prediction.answer(), "error": None}], seconds=1.0).read_text()
    assert "left out, %</button>" in page and 'data-sort="25.0"' in page
