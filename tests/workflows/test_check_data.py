from __future__ import annotations

import json
from pathlib import Path

import pytest

from medresnet3d.errors import ExitCode
from medresnet3d.workflows.check_data import check_data, print_check
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
    assert shown.count("does not exist") == 20 and "5 more of kind 'file'; --json lists all" in shown
    print_check(result, as_json=True)
    listed = json.loads(capsys.readouterr().out)
    assert listed["errors"] == len(listed["findings"]) == 25
    assert listed["findings"][0].keys() == {"level", "kind", "where", "text"}


def test_a_manifest_that_breaks_the_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "x", "task": "magic", "test": []}')
    result = check_data(tmp_path)
    assert result.exit_code is ExitCode.SOME_FAILED and result.sections == {}
    print_check(result)
    assert 'error `task` is "magic"; use one of classification' in capsys.readouterr().out
