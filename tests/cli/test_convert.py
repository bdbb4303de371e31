from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from medresnet3d.cli.main import app
from tests.io.dicom_maker import Series, stored_values
from tests.workflows.test_convert import study


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["convert", *map(str, arguments)])


def test_one_series(tmp_path: Path) -> None:
    folder = Series(stored_values()).write(tmp_path / "scan")
    result = run(folder, "-o", tmp_path / "x.nii.gz")
    assert result.exit_code == 0, result.output
    assert "x.nii.gz: 7 x 6 x 5 voxels of 0.8 x 1.1 x 2.5 mm, phantom" in result.stdout
    assert f"1 of 1 volumes written; list: {tmp_path / 'x.json'}" in result.stdout


def test_a_study(tmp_path: Path) -> None:
    result = run(study(tmp_path), "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "not converted: 1, scout, a localiser" in result.stdout
    assert "series_5.nii.gz: 7 x 6 x 5 voxels" in result.stdout and "3 of 3 volumes written" in result.stdout
    assert "Warning: series_6.nii.gz: 1 slice is missing" in result.stderr


def test_a_study_under_strict(tmp_path: Path) -> None:
    result = run(study(tmp_path), "-o", tmp_path / "out", "--strict")
    assert result.exit_code == 1, result.output
    assert "2 of 3 volumes written, 1 failed" in result.stdout
    (sentence,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert "1 slice is missing" in sentence


def test_the_list(tmp_path: Path) -> None:
    result = run(study(tmp_path), "--list")
    assert result.exit_code == 0, result.output
    head, *lines, last = result.stdout.splitlines()
    assert head.split() == ["ID", "TYPE", "SLICES", "PIXELS", "SPACING", "(mm)", "DESCRIPTION"]
    assert [line.split()[0] for line in lines] == ["1", "4", "5", "6"]
    assert len({line.index("7 x 6") for line in lines}) == 1 == len({line.index("0.8 x 1.1") for line in lines})
    assert lines[0].endswith("scout        (a localiser)") and "(1 slice is missing" in lines[3]
    assert last == "3 of 4 are volumes; choose one with --series ID."


def test_the_list_of_what_is_no_dicom(tmp_path: Path) -> None:
    run(Series(stored_values()).write(tmp_path / "scan"), "-o", tmp_path / "x.nii")
    result = run(tmp_path / "x.nii", "--list")
    assert result.exit_code == 0 and result.stdout == "nifti: 7 x 6 x 5 voxels of 0.8 x 1.1 x 2.5 mm\n"


def test_a_choice_that_only_a_person_can_make(tmp_path: Path) -> None:
    result = run(study(tmp_path), "-o", tmp_path / "x.nii", "--series", "3")
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert "there is no series '3'. Choose with --series ID" in lines[0]
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["1", "4", "5", "6"]
    assert run(study(tmp_path), "-o", tmp_path / "x.nii", "--series", "5").exit_code == 0


@pytest.mark.parametrize(
    ("source", "options", "code", "words"),
    [
        ("gone", ["-o", "out"], 3, ["gone: no such file or folder"]),
        ("gone", ["--list"], 3, ["gone: no such file or folder"]),
        ("scan", [], 2, ["where to? Give -o FILE or -o FOLDER, or --list"]),
        ("scan", ["-o", "x", "--list"], 2, ["--list writes nothing"]),
        ("scan", ["-o", "x.dcm"], 2, ["x.dcm: this is no format that can be written", ".nii.gz"]),
        ("scan", ["-o", "x.nii", "--phi", "non"], 2, ["--phi non", "did you mean 'none'?"]),
        ("text.nii", ["-o", "out"], 3, ["text.nii", "damaged"]),
        ("scan/notes.txt", ["-o", "out"], 3, ["notes.txt", "extension is not known"]),
    ],
)
def test_mistakes(tmp_path: Path, source: str, options: list[str], code: int, words: list[str]) -> None:
    Series(stored_values()).write(tmp_path / "scan")
    (tmp_path / "scan" / "notes.txt").write_text("notes")
    (tmp_path / "text.nii").write_text("no image")
    placed = [
        str(tmp_path / one) if before == "-o" else one for before, one in zip(["", *options], options, strict=False)
    ]
    result = run(tmp_path / source, *placed)
    assert result.exit_code == code, result.output
    (sentence,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert all(word in sentence for word in words), sentence
    assert "Traceback" not in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"scan", "text.nii"}


def test_a_whole_failure(tmp_path: Path) -> None:
    folder = Series(stored_values(), spacing=(0.8, 1.1, 2.5), shear=(0, 1.0, 0)).write(tmp_path / "scan")
    result = run(folder, "-o", tmp_path / "out", "--strict")
    assert result.exit_code == 3 and "gantry tilt" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_killed_writing_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    folder = Series(stored_values()).write(tmp_path / "scan")
    monkeypatch.setattr("os.fsync", stop)
    result = run(folder, "-o", tmp_path / "out" / "x.nii")
    assert result.exit_code == 130 and not list((tmp_path / "out").iterdir())


def test_numbers_are_kept(tmp_path: Path) -> None:
    import nibabel as nib

    series = Series(stored_values())
    run(series.write(tmp_path / "scan"), "-o", tmp_path / "x.nii")
    assert np.array_equal(nib.nifti1.load(tmp_path / "x.nii").get_fdata(), series.stored - 1024)
