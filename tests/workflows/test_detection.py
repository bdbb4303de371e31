"""Detection through the verbs: train, evaluate and infer, in 3D and in 2D, with a bundle of one convolution."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from monai.bundle import ConfigWorkflow

from medresnet3d import Predictor, infer
from medresnet3d.bundle.verify import verify_bundle
from medresnet3d.data import inputs
from medresnet3d.data.manifest import load_manifest
from medresnet3d.errors import BundleError, ExitCode
from medresnet3d.workflows.detection_log import NO_MANIFEST
from medresnet3d.workflows.evaluate import evaluate
from medresnet3d.workflows.train import train
from tests.io.dicom_maker import Series
from tests.workflows.detection_bundle import (
    AFFINE,
    BRIGHT,
    detection_bundle,
    draw,
    rows_of,
    to_mm,
    trainable_detection_bundle,
    truth,
    write_balls,
    write_discs,
)
from tests.workflows.tiny_bundles import cube_bundle


@pytest.fixture(scope="module")
def answers(detector: Path, balls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("answers")
    summary = infer(detector, balls, output)
    assert summary.exit_code is ExitCode.OK and summary.notes == []
    return output


# infer


def test_detections_lie_where_the_balls_are(answers: Path, balls: Path) -> None:
    lines = [json.loads(line) for line in (answers / "predictions.jsonl").read_text().splitlines()]
    found = {line["case"]: line["detections"] for line in lines}
    assert [len(found[f"scan{number}"]) for number in range(4)] == [3, 3, 1, 0]
    for place in truth(balls)["scan0"]:
        near = [one for one in found["scan0"] if np.linalg.norm([one["x"], one["y"], one["z"]] - place) < 1.0]
        assert len(near) == 1
        assert 6 < near[0]["diameter_mm"] < 9 and near[0]["probability"] > 0.94
    probabilities = [one["probability"] for one in found["scan0"]]
    assert probabilities == sorted(probabilities, reverse=True)


def test_the_table_counts_as_luna16_does_in_the_frame_of_the_file(answers: Path, balls: Path) -> None:
    rows = rows_of(answers / "detections.csv")
    assert list(rows[0]) == ["seriesuid", "coordX", "coordY", "coordZ", "probability"]
    assert [row["seriesuid"] for row in rows] == ["scan0"] * 3 + ["scan1"] * 3 + ["scan2"]
    image = sitk.ReadImage(str(balls.parent / "scan0.mhd"))  # ITK's own frame, LPS
    for row in rows[:3]:
        index = image.TransformPhysicalPointToIndex([float(row[name]) for name in ("coordX", "coordY", "coordZ")])
        assert image[index] >= 90, "each point of the table is a bright voxel of the file"


def test_a_row_a_case_and_a_table_each(answers: Path) -> None:
    rows = rows_of(answers / "predictions.csv")
    assert [row["detections"] for row in rows] == ["3", "3", "1", "0"]
    assert float(rows[0]["strongest_probability"]) > 0.97 and rows[3]["strongest_probability"] == ""
    assert rows[0]["files"] == "scan0_detections.csv"
    own = rows_of(answers / "scan0_detections.csv")
    assert list(own[0]) == ["x", "y", "z", "diameter_mm", "probability"] and len(own) == 3
    assert rows[0]["strongest_position"] == " ".join(f"{float(own[0][axis]):g}" for axis in "xyz")
    assert rows_of(answers / "scan3_detections.csv") == []


def test_the_report_marks_what_was_found(answers: Path) -> None:
    page = (answers / "cases" / "scan0.html").read_text()
    assert page.count('class="ring"') >= 3 and 'data-mark="2"' in page and "3 detections" in page
    over_all = (answers / "report.html").read_text()
    assert 'class="ring"' in over_all and "0 detections" in over_all


def test_a_classifier_of_points_takes_the_detections_as_its_manifest(answers: Path, tmp_path: Path) -> None:
    manifest = answers / "detections_manifest.json"
    assert load_manifest(manifest).task == "classification"
    points = inputs(manifest)
    assert len(points) == 7 and points[0]["case"] == "scan0" and points[0]["detection"] == 1
    classifier = cube_bundle(tmp_path / "classifier")
    summary = infer(classifier, manifest, tmp_path / "classes")
    assert summary.exit_code is ExitCode.OK and len(summary.rows) == 7
    assert summary.rows[0]["position"] == pytest.approx(points[0]["position"])


def test_a_second_run_leaves_nothing_of_the_first(detector: Path, balls: Path, tmp_path: Path) -> None:
    infer(detector, balls.parent / "scan0.mhd", tmp_path)
    infer(detector, balls.parent / "scan3.mhd", tmp_path)
    assert rows_of(tmp_path / "detections.csv") == [] and not (tmp_path / "detections_manifest.json").exists()


def test_without_names_there_is_no_manifest_of_paths(detector: Path, balls: Path, tmp_path: Path) -> None:
    summary = infer(detector, balls.parent / "scan0.mhd", tmp_path, phi="none")
    assert summary.notes == [NO_MANIFEST] and not (tmp_path / "detections_manifest.json").exists()
    assert {row["seriesuid"] for row in rows_of(tmp_path / "detections.csv")} == {"case-1"}


def test_dicom_gets_a_structured_report_with_the_place_of_each_detection(detector: Path, tmp_path: Path) -> None:
    stored = np.full((24, 20, 12), 1024 + 20, np.int16)
    stored[5:9, 10:14, 4:7] = 1024 + 100
    series = Series(stored, spacing=(1.0, 2.0, 3.0))
    folder = series.write(tmp_path / "scan")
    summary = infer(detector, folder, tmp_path / "out", phi="keep")
    assert summary.rows[0]["files"] == ["scan_detections.csv", "scan_sr.dcm"]
    report: Any = hd.sr.srread(tmp_path / "out" / "scan_sr.dcm")
    (group,) = report.content.get_volumetric_roi_measurement_groups()
    figures = {one.name.meaning: one.value for one in group.get_measurements()}
    assert figures["Probability"] == pytest.approx(0.982, abs=1e-3)
    assert figures["Long axis"] == pytest.approx(np.cbrt(6 / np.pi * 48 * 6), rel=1e-3)
    assert group.tracking_identifier == "nodule 1" and group.finding_type.meaning == "nodule"
    points = group.roi.graphic_data[0] if isinstance(group.roi.graphic_data, list) else group.roi.graphic_data
    centre = series.affine[:3, :3] @ [6.5, 11.5, 5] + series.affine[:3, 3]
    np.testing.assert_allclose(np.mean(points, axis=0), centre * (-1, -1, 1), atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(points[0] - points[1]), figures["Long axis"], rtol=1e-5)
    (row,) = rows_of(tmp_path / "out" / "detections.csv")
    assert row["seriesuid"] == series.uid, "with --phi keep a series is named as LIDC-IDRI and LUNA16 name it"
    only = infer(detector, folder, tmp_path / "sc", format="sc")
    assert only.rows[0]["files"] == ["scan_detections.csv", "scan_sc.dcm"]


def test_a_picture_has_its_detections_in_pixels(tmp_path: Path) -> None:
    flat = detection_bundle(tmp_path / "flat", dims=2)
    discs = write_discs(tmp_path / "discs")
    infer(flat, discs.parent / "disc.png", tmp_path / "out")
    (own,) = rows_of(tmp_path / "out" / "disc_detections.csv")
    assert [float(own[name]) for name in ("x", "y", "z")] == pytest.approx([10, 24, 0], abs=0.01)
    assert float(own["diameter_mm"]) == pytest.approx(8, abs=0.3)
    (row,) = rows_of(tmp_path / "out" / "detections.csv")
    assert float(row["coordX"]) == pytest.approx(10, abs=0.01) and float(row["coordY"]) == pytest.approx(24, abs=0.01)
    assert not (tmp_path / "out" / "detections_manifest.json").exists()
    assert 'class="ring"' in (tmp_path / "out" / "report.html").read_text()
    found = evaluate(flat, discs, tmp_path / "eval", n_boot=20)
    assert found["cpm"].value == 1.0


def test_an_answer_that_is_no_table_is_refused(tmp_path: Path, balls: Path) -> None:
    broken = detection_bundle(tmp_path / "broken")
    path = broken / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["answer"]["transforms"] = config["answer"]["transforms"][:1]
    path.write_text(json.dumps(config))
    with pytest.raises(BundleError, match="DetectionsFromMapd"):
        Predictor(broken)(balls.parent / "scan0.mhd")


# train


def test_training_by_the_cpm_learns_to_detect(tmp_path: Path) -> None:
    bundle = trainable_detection_bundle(tmp_path / "trainable", epochs=3)
    manifest = write_balls(tmp_path / "data", 4, "training", seed=3)
    raw = json.loads(manifest.read_text())
    raw["validation"] = [{**one, "patient": f"v{n}"} for n, one in enumerate(raw["training"])]
    manifest.write_text(json.dumps(raw))
    run = train(bundle, manifest, tmp_path / "run")
    rows = rows_of(run / "metrics.csv")
    assert float(rows[0]["val_cpm"]) < 0.5 < 0.8 < float(rows[-1]["val_cpm"])
    assert (run / "checkpoints" / "best.pt").is_file()
    found = evaluate(run, write_balls(tmp_path / "new"), tmp_path / "eval", n_boot=20)
    assert found["cpm"].value == pytest.approx(5 / 6)


def test_plain_monai_misses_nothing_and_leaves_the_same_table(answers: Path, balls: Path, tmp_path: Path) -> None:
    bundle = trainable_detection_bundle(tmp_path / "trainable", epochs=1)
    assert [check for check in verify_bundle(bundle, trust=True) if not check.ok] == []
    flow = ConfigWorkflow(
        config_file=str(bundle / "configs" / "inference.json"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="infer",
        bundle_root=str(bundle),
        input=str(balls),
        output_dir=str(tmp_path / "out"),
    )
    flow.initialize()
    flow.run()
    flow.finalize()
    assert (tmp_path / "out" / "detections.csv").read_text() == (answers / "detections.csv").read_text()
    assert [row["detections"] for row in rows_of(tmp_path / "out" / "predictions.csv")] == ["3", "3", "1", "0"]


def test_the_phantom_itself() -> None:
    centre = to_mm((7, 7, 5))
    array = draw([(centre, 8.0, BRIGHT)])
    voxel = np.linalg.inv(AFFINE) @ [*centre, 1]
    assert array[tuple(np.rint(voxel[:3]).astype(int))] == BRIGHT
