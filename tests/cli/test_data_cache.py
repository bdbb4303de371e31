from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from medresnet3d.cli.main import app
from tests.workflows.test_data_cache import fill


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", "cache", *map(str, arguments)])


def test_info_and_clear(tmp_path: Path) -> None:
    fill(tmp_path)
    told = run("info", tmp_path)
    assert told.exit_code == 0
    assert f"{tmp_path}: 3 entries" in told.stdout
    assert "lungs" in told.stdout
    assert [each["entries"] for each in json.loads(run("info", tmp_path, "--json").stdout)["data_sets"]] == [2, 1]
    assert run("clear", tmp_path, "--name", "lungs").stdout.startswith("Removed 2 entries")
    assert run("clear", tmp_path).exit_code == 0
    assert list(tmp_path.rglob("*.entry")) == []


def test_a_missing_folder_is_an_error_of_use(tmp_path: Path) -> None:
    told = run("info", tmp_path / "missing")
    assert told.exit_code == 2
    assert "no such folder" in told.output


def test_the_users_own_folder_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDRESNET3D_HOME", str(tmp_path))
    assert f"{tmp_path / 'cache'}: 0 entries" in run("info").stdout
