from __future__ import annotations

import csv
import gzip
import json
import signal
import threading
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medresnet3d import Predictor, infer
from medresnet3d.data.phantoms.dicom import write_dicom_series
from medresnet3d.errors import AmbiguousInputError, ConfigError, DataError, ExitCode, WeightsError
from medresnet3d.io import load, read_dicom_seg
from medresnet3d.workflows import answer_report
from tests.workflows.conftest import OBLIQUE, orthogonal, save_scan
from tests.workflows.tiny_bundles import THRESHOLD, threshold_bundle


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def left_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_one_scan(thresholder: Path, tmp_path: Path) -> None:
    array = save_scan(tmp_path / "scan.nii.gz")
    summary = infer(thresholder, tmp_path / "scan.nii.gz", tmp_path / "out")
    assert left_in(tmp_path / "out") == ["predictions.csv", "predictions.jsonl", "report.html", "scan_seg.nii.gz"]
    assert summary.exit_code is ExitCode.OK and summary.report == tmp_path / "out" / "report.html"
    answer = load(tmp_path / "out" / "scan_seg.nii.gz", constant_ok=True)
    np.testing.assert_array_equal(answer.array, array > THRESHOLD)
    np.testing.assert_allclose(answer.affine, orthogonal(OBLIQUE), atol=1e-4)
    (row,) = rows_of(tmp_path / "out")
    assert row["case"] == "scan" and row["path"] == str(tmp_path / "scan.nii.gz") and row["error"] is None
    assert row["bundle"] == "thresholder" and row["version"] == "0.1.0" and len(row["weights"]) == 64
    assert row["seconds"] > 0 and row["volumes_ml"]["bright"] > 0 and row["files"] == ["scan_seg.nii.gz"]
    report = (tmp_path / "out" / "report.html").read_text()
    assert "Research use only. Not for clinical use." in report and "data:image/png;base64," in report


def test_notes_of_the_bundle_are_told(
    thresholder: Path, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Predictor.__init__

    def with_note(self: Predictor, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.parts.notes.append("Its sliding window was replaced.")

    monkeypatch.setattr(Predictor, "__init__", with_note)
    summary = infer(thresholder, scan, tmp_path / "out")
    assert summary.notes == ["Its sliding window was replaced."]
    assert "Its sliding window was replaced." in (tmp_path / "out" / "report.html").read_text()


def test_one_bad_input_never_stops_the_rest(thresholder: Path, tmp_path: Path) -> None:
    for name in ("a", "c"):
        save_scan(tmp_path / f"{name}.nii.gz", seed=ord(name))
    whole = (tmp_path / "a.nii.gz").read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(whole[: len(whole) // 2])
    summary = infer(thresholder, [tmp_path, tmp_path / "gone.nii"], tmp_path / "out")
    rows = {row["case"]: row for row in rows_of(tmp_path / "out")}
    assert sorted(rows) == ["a", "b", "c", "gone"]
    assert rows["a"]["error"] is None and rows["c"]["error"] is None
    assert "b.nii.gz" in rows["b"]["error"] and "no such file" in rows["gone"]["error"]
    assert rows["b"].keys() == rows["a"].keys() and rows["b"]["files"] == []
    assert (summary.answered, sorted(summary.errors)) == (2, ["b", "gone"])
    assert summary.exit_code is ExitCode.SOME_FAILED
    assert {"cases/a.html", "cases/b.html", "a_seg.nii.gz", "c_seg.nii.gz"} <= set(left_in(tmp_path / "out"))
    assert not (tmp_path / "out" / "b_seg.nii.gz").exists()
    with (tmp_path / "out" / "predictions.csv").open(newline="") as handle:
        assert [row["case"] for row in csv.DictReader(handle) if row["error"]] == ["gone", "b"]


def test_an_error_that_nobody_foresaw_is_a_row_too(
    thresholder: Path, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("by nothing\nat all")

    monkeypatch.setattr(Predictor, "_run", explode)
    summary = infer(thresholder, scan, tmp_path / "out")
    assert summary.exit_code is ExitCode.NOTHING_DONE
    assert rows_of(tmp_path / "out")[0]["error"] == "ZeroDivisionError: by nothing (unexpected; see --debug)."
    assert isinstance(summary.errors["scan"].__cause__, ZeroDivisionError)


@pytest.mark.parametrize("stage", ["_read", "_run", "_conclude"])
def test_an_interrupted_run_leaves_the_finished_cases(
    thresholder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    for name in "abcd":
        save_scan(tmp_path / f"{name}.nii.gz")
    original = getattr(Predictor, stage)

    def press_ctrl_c(self: Predictor, job: Any, *args: Any) -> Any:
        item = job if stage == "_read" else job.item
        if item["case"] == "c":
            if threading.current_thread() is threading.main_thread():
                signal.raise_signal(signal.SIGINT)
            raise KeyboardInterrupt
        return original(self, job, *args)

    monkeypatch.setattr(Predictor, stage, press_ctrl_c)
    with pytest.raises(KeyboardInterrupt, match=r"Interrupted: 2 of 4 cases are done and in .*out\."):
        infer(thresholder, tmp_path, tmp_path / "out")
    assert [row["case"] for row in rows_of(tmp_path / "out")] == ["a", "b"]
    assert {"predictions.csv", "report.html", "a_seg.nii.gz", "b_seg.nii.gz"} <= set(left_in(tmp_path / "out"))
    assert len((tmp_path / "out" / "predictions.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("suffix", "asked", "written"),
    [
        (".mha", None, ["x_seg.mha"]),
        (".nrrd", None, ["x_seg.nrrd"]),
        (".nii", None, ["x_seg.nii.gz"]),
        (".nii", "mha", ["x_seg.mha"]),
        (".mha", "nifti", ["x_seg.nii.gz"]),
    ],
)
def test_the_format_family_of_the_input(
    thresholder: Path, tmp_path: Path, suffix: str, asked: str | None, written: list[str]
) -> None:
    array = save_scan(tmp_path / "scan.nii")
    scan = Predictor(thresholder)(tmp_path / "scan.nii")
    scan.pred = array.astype(np.int32) + 500  # the writer takes any whole numbers, so it makes the input as well
    source = scan.save(tmp_path / f"x{suffix}")
    summary = infer(thresholder, source, tmp_path / "out", format=asked)
    assert summary.rows[0]["files"] == written
    answer = load(tmp_path / "out" / written[0], constant_ok=True)
    np.testing.assert_array_equal(answer.array, load(source).array > THRESHOLD)
    np.testing.assert_allclose(answer.affine, load(source).affine, atol=1e-4)


def test_dicom_in_gives_dicom_seg_and_nifti(thresholder: Path, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(-500, 700, (14, 12, 8)).astype(np.int16)
    write_dicom_series(tmp_path / "ct", array, orthogonal(OBLIQUE), patient_id="SECRET-17", file_names="shuffled")
    summary = infer(thresholder, tmp_path / "ct", tmp_path / "out")
    assert sorted(summary.rows[0]["files"]) == ["ct_seg.dcm", "ct_seg.nii.gz"]
    volume = load(tmp_path / "ct")
    expected = volume.array > THRESHOLD
    np.testing.assert_array_equal(load(tmp_path / "out/ct_seg.nii.gz", constant_ok=True).array, expected)
    np.testing.assert_array_equal(read_dicom_seg(tmp_path / "out/ct_seg.dcm", volume), expected)
    for name in ("report.html", "predictions.csv", "predictions.jsonl"):
        assert "SECRET-17" not in (tmp_path / "out" / name).read_text()
    assert summary.rows[0]["patient"].startswith("anon-")


def test_two_series_in_a_folder_are_a_question(thresholder: Path, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(-500, 700, (10, 9, 8)).astype(np.int16)
    for number in (1, 2):
        write_dicom_series(tmp_path / "ct", array + number, np.eye(4), series_number=number)
    summary = infer(thresholder, tmp_path / "ct", tmp_path / "out")
    assert summary.exit_code is ExitCode.USAGE and isinstance(summary.errors["ct"], AmbiguousInputError)
    message = str(summary.errors["ct"])
    assert "2 series are volumes" in message and "--series" in message
    assert infer(thresholder, tmp_path / "ct", tmp_path / "out", series="2").exit_code is ExitCode.OK
    answer = load(tmp_path / "out" / "ct_seg.nii.gz", constant_ok=True).array
    np.testing.assert_array_equal(answer, load(tmp_path / "ct", series="2").array > THRESHOLD)


def test_a_point_for_a_classifier(classifier: Path, scan: Path, tmp_path: Path) -> None:
    summary = infer(classifier, scan, tmp_path / "none")
    assert summary.exit_code is ExitCode.USAGE and "--at" in rows_of(tmp_path / "none")[0]["error"]
    summary = infer(classifier, scan, tmp_path / "out", at=(12, -33, 60))
    (row,) = summary.rows
    assert sum(row["probabilities"].values()) == pytest.approx(1) and row["label"] in ("vessel", "nodule")
    assert row["position"] == [12, -33, 60]
    report = (tmp_path / "out" / "report.html").read_text()
    assert "vessel" in report and "nodule" in report and "data:image/png;base64," in report


def test_points_of_a_manifest(classifier: Path, scan: Path, tmp_path: Path) -> None:
    points = [[12, -33, 60], [10, -30, 58], [900, 0, 0]]
    manifest = {
        "name": "points",
        "task": "classification",
        "test": [{"image": scan.name, "patient": "P1", "position": point} for point in points],
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    summary = infer(classifier, tmp_path / "manifest.json", tmp_path / "out")
    first, second, third = summary.rows
    assert [row["case"] for row in summary.rows] == ["scan", "scan_2", "scan_3"]
    assert first["probabilities"] != second["probabilities"] and first["patient"] == "P1"
    assert "outside of the scan" in third["error"] and summary.exit_code is ExitCode.SOME_FAILED


def test_many_cases_keep_the_report_small(thresholder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_report, "MAX_CARDS", 2)
    for name in "abcd":
        save_scan(tmp_path / f"{name}.nii.gz")
    infer(thresholder, str(tmp_path / "*.nii.gz"), tmp_path / "out")
    report = (tmp_path / "out" / "report.html").read_text()
    assert "Pictures of the first 2 cases are below" in report
    assert [name for name in left_in(tmp_path / "out") if name.startswith("cases")] == [
        f"cases/{name}.html" for name in "abcd"
    ]


def test_what_is_refused_before_anything_is_written(thresholder: Path, scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match=r"--format dicomseq: this format is unknown; did you mean 'dicomseg'\?"):
        infer(thresholder, scan, out, format="dicomseq")
    with pytest.raises(ConfigError, match="takes the whole scan and no point; leave --at out"):
        infer(thresholder, scan, out, at=(0, 0, 0))
    with pytest.raises(ConfigError, match="no id 'netwrk'"):
        infer(thresholder, scan, out, set=["netwrk=1"])
    with pytest.raises(ConfigError, match="precision is given twice"):
        infer(thresholder, scan, out, precision="fp32", set={"precision": "bf16"})
    with pytest.raises(DataError, match="No input is given"):
        infer(thresholder, [], out)
    with pytest.raises(WeightsError, match="no trained weights"):
        infer(threshold_bundle(tmp_path / "bare", weights=False), scan, out)
    (tmp_path / "m.json").write_text('{"name": "m", "task": "segmentation"}')
    with pytest.raises(DataError, match="none of the lists `training`, `validation` and `test` is there"):
        infer(thresholder, tmp_path / "m.json", out)
    assert not out.exists()


def test_ids_that_are_arguments_too(thresholder: Path, scan: Path, tmp_path: Path) -> None:
    summary = infer(thresholder, scan, tmp_path / "out", set={"precision": "fp32", "device": "cpu"})
    assert summary.exit_code is ExitCode.OK


def test_dicom_seg_for_a_scan_that_is_not_dicom(thresholder: Path, scan: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"{scan.name}: --format dicomseg needs a DICOM scan to refer to"):
        infer(thresholder, scan, tmp_path / "out", format="dicomseg")
    assert not (tmp_path / "out").exists()
    rng = np.random.default_rng(0)
    write_dicom_series(tmp_path / "ct", rng.integers(0, 99, (12, 10, 8)).astype(np.int16), np.diag([2.0, 2.0, 2.0, 1]))
    summary = infer(thresholder, [scan, tmp_path / "ct"], tmp_path / "both", format="dicomseg")
    failed, answered = summary.rows
    assert "needs a DICOM scan to refer to" in failed["error"] and failed["path"] == str(scan)
    assert answered["files"] == ["ct_seg.dcm"] and answered["error"] is None


def test_nothing_says_what_the_files_are_called_without_phi(thresholder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "Janedoe Zyxwvutsr"
    folder.mkdir()
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    for name in ("janedoe zyxwvutsr 1", "janedoe zyxwvutsr 2"):
        image = nib.Nifti1Image(np.random.default_rng(0).normal(size=(12, 12, 12)).astype(np.float32), affine)
        image.set_sform(affine, 0)
        image.set_qform(None, 0)  # so that a warning is written
        nib.save(image, folder / f"{name}.nii.gz")
    (folder / "janedoe zyxwvutsr 3.nii.gz").write_bytes(b"nothing of the kind")
    out = tmp_path / "out"
    summary = infer(thresholder, folder, out, phi="none")
    assert summary.exit_code is ExitCode.SOME_FAILED
    assert [(row["case"], row["path"]) for row in summary.rows] == [(f"case-{n}", None) for n in (1, 2, 3)]
    assert str(summary.errors["case-3"]).startswith("case-3: the NIfTI file is damaged")
    written = [path for path in out.rglob("*") if path.is_file()]
    assert {"case-1_seg.nii.gz", "case-2_seg.nii.gz"} <= {path.name for path in written}
    for path in written:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        assert "zyxwvutsr" not in str(path.relative_to(out)).lower()
        assert b"zyxwvutsr" not in content.lower()
