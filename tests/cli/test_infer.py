from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from medresnet3d.cli.infer import _answer, parse_point
from medresnet3d.cli.main import app
from medresnet3d.data.phantoms.dicom import write_dicom_series
from medresnet3d.errors import ConfigError
from tests.workflows.conftest import save_scan
from tests.workflows.tiny_bundles import cube_bundle, threshold_bundle


@pytest.fixture(scope="module")
def thresholder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return threshold_bundle(tmp_path_factory.mktemp("bundles") / "thresholder")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cube_bundle(tmp_path_factory.mktemp("bundles") / "classifier")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["infer", *map(str, arguments)])


def test_one_scan(thresholder: Path, tmp_path: Path) -> None:
    save_scan(tmp_path / "scan.nii.gz")
    result = run(thresholder, tmp_path / "scan.nii.gz", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "scan: bright" in result.stdout and "1 of 1 cases answered; report: " in result.stdout
    assert "Research use only. Not for clinical use." in result.stderr
    assert (tmp_path / "out" / "scan_seg.nii.gz").exists()


def test_a_number_format_by_its_id(thresholder: Path, tmp_path: Path) -> None:
    save_scan(tmp_path / "scan.nii.gz")
    arguments = (thresholder, tmp_path / "scan.nii.gz", "-o", tmp_path / "out", "--set", "precision=fp32")
    result = run(*arguments, "--set", "device=cpu")
    assert result.exit_code == 0, result.output
    refused = run(*arguments, "--precision", "bf16")
    assert refused.exit_code == 2
    assert "precision is given twice: --precision bf16 and --set precision=fp32" in " ".join(refused.output.split())


def test_an_answer_that_lies_in_the_details_only() -> None:
    row: dict[str, object] = {"probabilities": {}, "volumes_ml": {}, "value": None, "details": {"inference": {}}}
    assert _answer(row) == "no structure found"
    assert _answer({**row, "details": {"inference": {}, "landmarks": [1]}}) == "landmarks (see predictions.jsonl)"
    assert _answer({**row, "details": {"pixels": {"exudate": 1420}}}) == "exudate 1,420 pixels"
    assert _answer({**row, "details": {"pixels": {"exudate": 0}}}) == "no structure found"
    assert _answer({key: row[key] for key in ("probabilities", "volumes_ml", "value")}) == "no structure found"


def test_what_is_said_of_detections() -> None:
    row: dict[str, object] = {"probabilities": {}, "volumes_ml": {}, "value": None, "detections": []}
    assert _answer(row) == "nothing detected"
    found = [{"x": 1.0, "y": 2.0, "z": 3.0, "probability": 0.4}, {"x": -8.2, "y": 25.5, "z": 7.0, "probability": 0.977}]
    assert _answer({**row, "detections": found}) == "2 detections, the most probable (0.98) at -8, 26, 7"
    assert _answer({**row, "detections": found[:1]}) == "1 detection, the most probable (0.40) at 1, 2, 3"


def test_a_point_with_a_minus(classifier: Path, tmp_path: Path) -> None:
    save_scan(tmp_path / "scan.nii.gz")
    for point in (["--at", "-2,-19,25"], ["--at=-2,-19,25"]):
        result = run(classifier, tmp_path / "scan.nii.gz", "-o", tmp_path / "out", *point)
        assert result.exit_code == 0, result.output
        assert "vessel 0." in result.stdout and "nodule 0." in result.stdout


@pytest.mark.parametrize("text", ["", "1,2", "1,2,3,4", "1,b,3", "1 2 3"])
def test_a_point_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match="give three numbers x,y,z in mm, for example --at"):
        parse_point(text)
    assert parse_point("1.5,-2,3e1") == (1.5, -2.0, 30.0)
    assert parse_point(None) is None


def test_options_reach_the_workflow(thresholder: Path, tmp_path: Path) -> None:
    save_scan(tmp_path / "scan.nii.gz")
    options = ["--format", "mha", "--device", "cpu", "--set", "inferer::_target_=monai.inferers.SlidingWindowInferer"]
    result = run(
        thresholder, tmp_path / "scan.nii.gz", "-o", tmp_path / "out", *options, "--set", "inferer::roi_size=8"
    )
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "scan_seg.mha").exists()


def nifti(path: Path, array: object, affine: object = None) -> Path:
    image = nib.nifti1.Nifti1Image(np.asarray(array), np.eye(4) if affine is None else np.asarray(affine))
    nib.loadsave.save(image, path)
    return path


def missing_file(folder: Path) -> Path:
    return folder / "gone.nii.gz"


def empty_folder(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def pattern(folder: Path) -> Path:
    return folder / "*.nii"


def wrong_extension(folder: Path) -> Path:
    (folder / "scan.xyz").write_text("x")
    return folder / "scan.xyz"


def truncated(folder: Path) -> Path:
    save_scan(folder / "whole.nii.gz")
    content = (folder / "whole.nii.gz").read_bytes()
    (folder / "half.nii.gz").write_bytes(content[: len(content) // 2])
    return folder / "half.nii.gz"


def four_dimensions(folder: Path) -> Path:
    return nifti(folder / "x.nii", np.random.default_rng(0).random((5, 5, 5, 3), np.float32))


def not_a_number(folder: Path) -> Path:
    array = np.random.default_rng(0).random((5, 5, 5), np.float32)
    array[2, 2, 2] = np.nan
    return nifti(folder / "x.nii", array)


def constant(folder: Path) -> Path:
    return nifti(folder / "x.nii", np.full((5, 5, 5), 7, np.int16))


def zero_spacing(folder: Path) -> Path:
    save_scan(folder / "x.nii")
    content = bytearray((folder / "x.nii").read_bytes())
    content[80:92] = np.array([1, 0, 1], np.float32).tobytes()  # pixdim[1:4]
    content[252:256] = bytes(4)  # neither qform nor sform, so that the spacing decides
    (folder / "x.nii").write_bytes(content)
    return folder / "x.nii"


def flat_affine(folder: Path) -> Path:
    save_scan(folder / "x.nii")
    content = bytearray((folder / "x.nii").read_bytes())
    content[252:256] = np.array([0, 1], np.int16).tobytes()  # sform only
    content[280:328] = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]], np.float32).tobytes()
    (folder / "x.nii").write_bytes(content)
    return folder / "x.nii"


def slices() -> np.ndarray:
    return np.random.default_rng(0).integers(-500, 700, (10, 9, 8)).astype(np.int16)


def missing_slice(folder: Path) -> Path:
    write_dicom_series(folder / "ct", slices(), np.eye(4), missing_slices=[3])
    return folder / "ct"


def two_series(folder: Path) -> Path:
    for number in (1, 2):
        write_dicom_series(folder / "ct", slices(), np.eye(4), series_number=number)
    return folder / "ct"


def broken_manifest(folder: Path) -> Path:
    (folder / "m.json").write_text(json.dumps({"name": "m", "task": "segmentation", "test": [{"imgae": "x.nii"}]}))
    return folder / "m.json"


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (missing_file, 3, ["gone.nii.gz", "no such file"]),
        (empty_folder, 3, ["empty", "no image is in this folder", ".nii.gz"]),
        (pattern, 3, ["*.nii", "matches no file", ".nii.gz"]),
        (wrong_extension, 3, ["scan.xyz", "extension is not known", ".nii.gz"]),
        (truncated, 3, ["half.nii.gz"]),
        (four_dimensions, 2, ["x.nii", "4 dimensions", "--series"]),
        (not_a_number, 3, ["x.nii", "1 of 125 voxels are NaN or infinite"]),
        (constant, 3, ["x.nii", "every voxel has the value 7"]),
        (zero_spacing, 3, ["x.nii", "is 0 mm"]),
        (flat_affine, 3, ["x.nii", "cannot be inverted"]),
        (missing_slice, 3, ["ct", "slice"]),
        (two_series, 2, ["ct", "2 series are volumes", "--series"]),
        (broken_manifest, 2, ["m.json", "entry 1 of `test`", "rename `imgae` to `image`"]),
    ],
)
def test_bad_input(
    thresholder: Path, tmp_path: Path, make: Callable[[Path], Path], code: int, words: list[str]
) -> None:
    source = make(tmp_path)
    result = run(thresholder, source, "-o", tmp_path / "out", "--strict")
    assert result.exit_code == code, result.output
    sentences = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(sentences) == 1 and all(word in sentences[0] for word in words), result.stderr
    assert "Traceback" not in result.stderr
    left = {path.name for path in (tmp_path / "out").rglob("*")}
    assert left == (set() if make is broken_manifest else {"predictions.jsonl", "predictions.csv", "report.html"})


def test_what_is_repaired_is_told(thresholder: Path, tmp_path: Path) -> None:
    result = run(thresholder, missing_slice(tmp_path), "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    (row,) = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert any("slice" in warning for warning in row["warnings"])
    assert {"seconds_reading", "seconds_network", "seconds_writing"} <= set(
        (tmp_path / "out" / "predictions.csv").read_text().splitlines()[0].split(",")
    )


def test_options_of_exactness_and_privacy(thresholder: Path, tmp_path: Path) -> None:
    write_dicom_series(tmp_path / "ct", slices(), np.eye(4), patient_id="Jane Doe")
    where = ["-o", tmp_path / "out"]
    assert run(thresholder, tmp_path / "ct", *where, "--exact", "--precision", "fp32", "--phi", "none").exit_code == 0
    assert json.loads((tmp_path / "out" / "predictions.jsonl").read_text())["patient"] is None
    assert run(thresholder, tmp_path / "ct", *where, "--phi", "keep").exit_code == 0
    assert json.loads((tmp_path / "out" / "predictions.jsonl").read_text())["patient"] == "Jane Doe"


def test_the_others_are_answered_all_the_same(thresholder: Path, tmp_path: Path) -> None:
    save_scan(tmp_path / "good.nii")
    result = run(thresholder, constant(tmp_path), tmp_path / "good.nii", "-o", tmp_path / "out")
    assert result.exit_code == 1, result.output
    assert "good: bright" in result.stdout and "1 of 2 cases answered, 1 failed" in result.stdout


@pytest.mark.parametrize(
    ("bundle", "options", "words"),
    [
        ("brain_tisue_voxresnet", [], ["No bundle is called 'brain_tisue_voxresnet'"]),
        ("bare", [], ["this bundle has no trained weights: train it with"]),
        ("classifier", [], ["whole scan", "--at x,y,z"]),
        ("classifier", ["--at", "1,2"], ["--at '1,2'", "give three numbers x,y,z"]),
        ("thresholder", ["--at", "1,2,3"], ["takes the whole scan and no point"]),
        ("thresholder", ["--format", "niftii"], ["--format niftii", "did you mean 'nifti'?"]),
        ("thresholder", ["--device", "tpu"], ["tpu", "use auto, cpu, cuda"]),
        ("thresholder", ["--phi", "keeep"], ["--phi keeep", "did you mean 'keep'?"]),
        ("thresholder", ["--precision", "int8"], ['precision is "int8"', "use one of auto, fp32, bf16, fp16"]),
        ("thresholder", ["--set", "infrer=1"], ["no id 'infrer'; did you mean 'inferer'?"]),
        ("thresholder", ["--set", "inferer"], ["write it as id=value"]),
    ],
)
def test_wrong_usage(tmp_path: Path, bundle: str, options: list[str], words: list[str]) -> None:
    made = {"bare": False, "classifier": True, "thresholder": True}
    if bundle in made:
        maker = cube_bundle if bundle == "classifier" else threshold_bundle
        maker(tmp_path / bundle, weights=made[bundle])
    save_scan(tmp_path / "scan.nii")
    result = run(
        tmp_path / bundle if bundle in made else bundle, tmp_path / "scan.nii", "-o", tmp_path / "out", *options
    )
    assert result.exit_code == 2, result.output
    (sentence,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert all(word in sentence for word in words), sentence


def test_a_point_outside_the_scan(classifier: Path, tmp_path: Path) -> None:
    save_scan(tmp_path / "scan.nii")
    result = run(classifier, tmp_path / "scan.nii", "-o", tmp_path / "out", "--at", "900,0,0")
    assert result.exit_code == 3 and "lies outside of the scan, which covers x " in result.stderr


def test_a_full_disk(thresholder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_scan(tmp_path / "scan.nii")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    result = run(thresholder, tmp_path / "scan.nii", "-o", tmp_path / "out")
    assert result.exit_code == 2 and "the disk is full; free some space" in result.stderr
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_an_unforeseen_error_shows_its_traceback_only_with_debug(
    thresholder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medresnet3d.workflows.predictor import Predictor

    def explode(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(Predictor, "_run", explode)
    save_scan(tmp_path / "scan.nii")
    arguments = ["infer", str(thresholder), str(tmp_path / "scan.nii"), "-o", str(tmp_path / "out")]
    plain = CliRunner().invoke(app, arguments)
    loud = CliRunner().invoke(app, ["--debug", *arguments])
    assert plain.exit_code == loud.exit_code == 3
    assert "Error: ZeroDivisionError: by nothing (unexpected; see --debug)." in plain.stderr
    assert "Traceback" not in plain.stderr and "Traceback" in loud.stderr
