from __future__ import annotations

import pytest
from typer.testing import CliRunner

from medresnet3d import __version__
from medresnet3d.cli.main import app

VERBS = ["demo", "infer", "train", "evaluate", "bundle", "data", "doctor"]


def test_help_lists_the_verbs() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert all(verb in result.output for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    result = CliRunner().invoke(app, [verb, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"medresnet3d {__version__}\n"


def test_wrong_usage_is_exit_code_2() -> None:
    for arguments in (["infer"], ["nonsense"], ["bundle", "show"], ["train", "x"]):
        assert CliRunner().invoke(app, arguments).exit_code == 2


def test_debug_goes_before_the_verb() -> None:
    result = CliRunner().invoke(app, ["--debug", "bundle", "show", "nonsense"])
    assert result.exit_code == 2
    assert "Traceback" in result.output
    quiet = CliRunner().invoke(app, ["bundle", "show", "nonsense"])
    assert "Traceback" not in quiet.output
