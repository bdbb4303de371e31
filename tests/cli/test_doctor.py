from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from medresnet3d.cli.main import app
from medresnet3d.workflows import doctor


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the self-test, which takes seconds."""
    monkeypatch.setattr(doctor, "_self_test", lambda: doctor.Examined("bf16 self-test", "ok", "left out"))


def test_a_line_for_everything() -> None:
    result = CliRunner().invoke(app, ["doctor", "--json"])
    names = [item["name"] for item in json.loads(result.output)]
    assert result.exit_code == 0
    assert {"medresnet3d", "python", "torch", "monai", "nilearn", "safetensors", "cpu", "cuda"} <= set(names)


def test_missing_part_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "NEEDED", "torch not-a-package")
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "pip install not-a-package" in result.output
