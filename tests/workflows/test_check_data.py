from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from medresnet3d.data.checking.fingerprint import load_fingerprint
from medresnet3d.errors import ConfigError, ExitCode
from medresnet3d.workflows import check_data as checks
from medresnet3d.workflows.check_data import as_json, check_data, default_output, print_check
from tests.data.checking.cohorts import picture, pictures, texture
from tests.workflows.conftest import save_scan


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    for number in range(30):
        save_scan(tmp_path / f"{number}.nii", seed=number, shape=(4, 4, 4))
    entries = [{"image": f"{i}.nii", "label": "ab"[i % 2], "patient": i} for i in range(30)]
    (tmp_path / "manifest.json").write_text(
        json.dumps({"name": "t[oy]", "task": "classification", "training": entries})
    )
    return tmp_path / "manifest.json"


def test_a_sound_data_set(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = check_data(manifest)
    assert result.exit_code is ExitCode.OK
    assert result.sections == {"training": {"entries": 30, "patients": 30}}
    assert result.classes == {"training": {"a": 15, "b": 15}}
    print_check(result)
    shown = capsys.readouterr().out
    assert "t[oy] (classification)" in shown and "a 15, b 15" in shown and "0 errors, 0 warnings" in shown


def test_many_findings_of_a_kind_are_cut_short_but_not_in_json(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(25):
        (manifest.parent / f"{number}.nii").unlink()
    result = check_data(manifest, deep=True)
    assert result.exit_code is ExitCode.SOME_FAILED and result.errors == 25
    print_check(result)
    shown = capsys.readouterr().out
    assert shown.count("does not exist") == 20 and "5 more of kind 'file'; --json lists more" in shown
    assert "25 errors, 0 warnings; 25 of them would spoil a training" in shown
    listed = json.loads(as_json([result]))
    assert listed["errors"] == listed["spoiling"] == len(listed["findings"]) == 25
    assert listed["findings"][0].keys() == {"level", "spoils", "kind", "where", "text"}
    assert [one["name"] for one in json.loads(as_json([result, result]))] == ["t[oy]"] * 2


def test_what_is_kept_is_bounded_but_everything_is_counted_and_written(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(25):
        (manifest.parent / f"{number}.nii").unlink()
    monkeypatch.setattr(checks, "MAX_KEPT_PER_KIND", 21)
    result = check_data(manifest, output=tmp_path / "out")
    assert len(result.findings) == 21 and result.errors == 25
    with (tmp_path / "out" / "findings.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 25 and rows[3]["where"] == "entry 4 of `training` (3.nii)" and rows[3]["spoils"] == "True"
    print_check(result)
    assert "5 more of kind 'file'" in (shown := capsys.readouterr().out) and "findings.csv lists all" in shown


def test_nothing_is_written_unless_it_is_asked_for(manifest: Path, tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    assert check_data(manifest, deep=True).output is None
    assert set(tmp_path.rglob("*")) == before
    result = check_data(manifest, deep=True, output=tmp_path / "out")
    assert result.output == tmp_path / "out"
    assert {path.name for path in result.output.iterdir()} == {"fingerprint.json", "report.html", "findings.csv"}
    assert load_fingerprint(tmp_path / "out" / "fingerprint.json")["deep"] is True


def test_a_warning_that_spoils_ends_with_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cohort = pictures(tmp_path)
    picture(3, lambda: texture(2), ".jpg")(cohort)
    cohort.move(3, "validation")
    result = check_data(cohort.path, deep=True)
    assert (result.errors, result.spoiling, result.exit_code) == (0, 1, ExitCode.SOME_FAILED)
    print_check(result)
    shown = capsys.readouterr().out
    assert "list one of them. (would spoil a training)" in shown and "1 of them would spoil a training" in shown


def test_the_folder_is_named_after_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "manifest.json").write_text("{}")
    assert default_output(tmp_path / "study") == default_output(tmp_path / "study" / "manifest.json")
    assert default_output(tmp_path / "study") == Path("study_check")
    assert default_output(tmp_path / "study" / "folds.csv") == Path("folds_check")


def test_an_unknown_choice_of_names(manifest: Path) -> None:
    with pytest.raises(ConfigError, match="--phi keeep: this choice is unknown; did you mean 'keep'"):
        check_data(manifest, phi="keeep")


def test_a_manifest_that_breaks_the_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "x", "task": "magic", "test": []}')
    result = check_data(tmp_path)
    assert result.exit_code is ExitCode.SOME_FAILED and result.sections == {}
    print_check(result)
    assert 'error `task` is "magic"; use one of classification' in capsys.readouterr().out
