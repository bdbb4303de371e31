from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medresnet3d.errors import ConfigError, DataError, ExitCode, WeightsError
from medresnet3d.metrics import classification_metrics
from medresnet3d.workflows.evaluate import evaluate
from tests.workflows.conftest import save_scan
from tests.workflows.tiny_bundles import THRESHOLD, cube_bundle, threshold_bundle


def write_manifest(folder: Path, task: str, entries: list[dict[str, Any]], **more: Any) -> Path:
    path = folder / "manifest.json"
    path.write_text(json.dumps({"name": "toy scans", "task": task, "test": entries, **more}))
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture
def scans(tmp_path: Path) -> list[dict[str, Any]]:
    """Six scans of three patients with the truth that the threshold bundle finds, but for what each test spoils."""
    entries = []
    for number in range(6):
        image, mask = tmp_path / f"scan_{number}.nii.gz", tmp_path / f"mask_{number}.nii.gz"
        array = save_scan(image, seed=number)
        nib.save(nib.Nifti1Image((array > THRESHOLD).astype(np.uint8), nib.load(image).affine), mask)
        entries.append({"image": image.name, "mask": mask.name, "patient": f"p{number // 2}"})
    return entries


def spoil(mask: Path, shift: int) -> None:
    """Move a mask by some voxels."""
    image = nib.load(mask)
    nib.save(nib.Nifti1Image(np.roll(np.asarray(image.dataobj), shift, axis=0), image.affine), mask)


def test_segmentation_is_compared_in_the_scans_own_geometry(
    thresholder: Path, scans: list[dict[str, Any]], tmp_path: Path
) -> None:
    spoil(tmp_path / "mask_5.nii.gz", 2)
    manifest = write_manifest(tmp_path, "segmentation", scans, labels=["background", "bright"])
    found = evaluate(thresholder, manifest, tmp_path / "out", n_boot=100)
    rows = read_csv(tmp_path / "out" / "cases.csv")
    assert [float(row["dice"]) for row in rows[:5]] == [1.0] * 5
    assert 0.2 < float(rows[5]["dice"]) < 0.95
    dice = found["bright"]["dice"]
    assert dice.value == pytest.approx(np.mean([float(row["dice"]) for row in rows]))
    assert dice.low < dice.value <= dice.high and dice.n == 3
    assert (found.section, found.cases, found.patients, found.exit_code) == ("test", 6, 3, ExitCode.OK)
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert content["metrics"]["bright"]["dice"]["value"] == pytest.approx(dice.value)
    assert content["patients"] == 3 and content["disclaimer"] == "Research use only. Not for clinical use."
    report = (tmp_path / "out" / "report.html").read_text()
    assert report.index("Worst cases</h2>") < report.index("<h3>scan_5") < report.index("Best cases</h2>")
    assert len(read_csv(tmp_path / "out" / "predictions.csv")) == 6


def test_ids_that_are_arguments_too(thresholder: Path, scans: list[dict[str, Any]], tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, "segmentation", scans[:2], labels=["background", "bright"])
    ids = ["precision=fp32", "device=cpu"]
    assert evaluate(thresholder, manifest, tmp_path / "out", set=ids, n_boot=10)["bright"]["dice"].value == 1.0
    with pytest.raises(ConfigError, match="device is given twice: --device cuda and --set device=cpu"):
        evaluate(thresholder, manifest, tmp_path / "twice", set=ids, device="cuda")


def test_one_bad_case_does_not_stop_the_rest(thresholder: Path, scans: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "scan_1.nii.gz").write_bytes((tmp_path / "scan_1.nii.gz").read_bytes()[:400])
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), tmp_path / "mask_2.nii.gz")
    image = nib.load(tmp_path / "mask_3.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) * np.uint8(7), image.affine), tmp_path / "mask_3.nii.gz")
    manifest = write_manifest(tmp_path, "segmentation", scans, labels=["background", "bright"])
    found = evaluate(thresholder, manifest, tmp_path / "out", n_boot=50)
    assert found.exit_code == ExitCode.SOME_FAILED and found.cases == 3
    assert sorted(found.errors) == ["scan_1", "scan_2", "scan_3"]
    assert "outside the class list" in found.errors["scan_3"]
    assert found["bright"]["dice"].value == 1.0
    rows = {row["case"]: row for row in read_csv(tmp_path / "out" / "cases.csv")}
    assert rows["scan_2"]["error"] == found.errors["scan_2"] and not rows["scan_0"]["error"]
    assert "3 of 6 cases have no answer" in " ".join(found.warnings)
    assert found.errors["scan_3"].split("; ")[-1] in (tmp_path / "out" / "report.html").read_text()


def test_nothing_answered_is_exit_code_3_with_a_report(
    thresholder: Path, scans: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "scan_0.nii.gz").write_bytes(b"no scan")
    manifest = write_manifest(tmp_path, "segmentation", scans[:1], labels=["background", "bright"])
    found = evaluate(thresholder, manifest, tmp_path / "out")
    assert found == {} and found.exit_code == ExitCode.NOTHING_DONE
    assert "Cases without an answer" in (tmp_path / "out" / "report.html").read_text()


@pytest.fixture
def cubes(tmp_path: Path) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    entries = []
    for number in range(12):
        array = (rng.normal(-600, 200, size=(18, 18, 18)) + 300 * (number % 2)).astype(np.float32)
        nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / f"cube_{number:02d}.nii.gz")
        label = ("nodule", "vessel")[number % 2]
        entries.append({"image": f"cube_{number:02d}.nii.gz", "label": label, "patient": f"p{number // 2}"})
    return entries


def test_classification_gives_the_metrics_of_its_own_predictions(
    classifier: Path, cubes: list[dict[str, Any]], tmp_path: Path
) -> None:
    """The manifest lists the classes in the other order than the bundle, so they must be matched by name."""
    manifest = write_manifest(tmp_path, "classification", cubes, labels=["nodule", "vessel"])
    found = evaluate(classifier, manifest, tmp_path / "out", n_boot=100, seed=5)
    predictions = read_csv(tmp_path / "out" / "predictions.csv")
    prob = [[float(row[f"probability_{name}"]) for name in ("vessel", "nodule")] for row in predictions]
    label = [1 if entry["label"] == "nodule" else 0 for entry in cubes]
    expected = classification_metrics(prob, label, [e["patient"] for e in cubes], n_boot=100, seed=5)
    assert found == {
        name: pytest.approx(value) if isinstance(value, float) else value for name, value in expected.items()
    }
    rows = read_csv(tmp_path / "out" / "cases.csv")
    assert [row["truth"] for row in rows] == [entry["label"] for entry in cubes]
    report = (tmp_path / "out" / "report.html").read_text()
    for words in ("Confusion matrix", "ROC", "Calibration", "Worst cases", "attention"):
        assert words in report


def test_regression(tmp_path: Path, cubes: list[dict[str, Any]]) -> None:
    bundle = cube_bundle(tmp_path / "ages", regression=True)
    entries = [entry | {"label": 40.0 + number} for number, entry in enumerate(cubes)]
    found = evaluate(bundle, write_manifest(tmp_path, "regression", entries), tmp_path / "out", n_boot=50)
    rows = read_csv(tmp_path / "out" / "cases.csv")
    errors = [float(row["answer"]) - 40 - number for number, row in enumerate(rows)]
    assert found["mae"].value == pytest.approx(np.abs(errors).mean())
    report = (tmp_path / "out" / "report.html").read_text()
    assert "Bland-Altman" in report and "over ten units of truth" in report


def test_patients_of_the_training_are_warned_of(thresholder: Path, scans: list[dict[str, Any]], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(thresholder, run / "bundle")
    (run / "environment.json").write_text(json.dumps({"patients": {"training": ["p0", "p1"], "validation": ["q"]}}))
    manifest = write_manifest(tmp_path, "segmentation", scans, labels=["background", "bright"])
    found = evaluate(run, manifest, tmp_path / "out", n_boot=20)
    assert found.warnings[0].startswith("2 of the 3 patients were in the training of these weights")
    assert "2 of the 3 patients were in the training" in (tmp_path / "out" / "report.html").read_text()


def test_a_bundle_without_weights_says_how_to_train_it(scans: list[dict[str, Any]], tmp_path: Path) -> None:
    bundle = threshold_bundle(tmp_path / "untrained", weights=False)
    manifest = write_manifest(tmp_path, "segmentation", scans, labels=["background", "bright"])
    with pytest.raises(WeightsError, match=r"no trained weights: train it with `medresnet3d train untrained --data"):
        evaluate(bundle, manifest, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_data_of_another_task_or_with_other_classes_are_refused(
    thresholder: Path, classifier: Path, scans: list[dict[str, Any]], cubes: list[dict[str, Any]], tmp_path: Path
) -> None:
    manifest = write_manifest(tmp_path, "segmentation", scans, labels=["background", "bright"])
    with pytest.raises(DataError, match="its task is segmentation"):
        evaluate(classifier, manifest, tmp_path / "out")
    manifest = write_manifest(tmp_path, "classification", cubes, labels=["nodule", "vessel", "scar"])
    with pytest.raises(DataError, match="its classes"):
        evaluate(classifier, manifest, tmp_path / "out")
