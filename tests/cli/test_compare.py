from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from medresnet3d.cli import compare, learning_curve
from medresnet3d.cli.main import app as main_app
from medresnet3d.workflows.compare_presets import ALL, presets
from tests.cli.application import application
from tests.workflows.toy_bundle import write_cubes, write_toy_bundle

COMMAND = (
    "import signal, torch; signal.signal(signal.SIGINT, signal.default_int_handler); torch.set_num_threads(1); "
    "from medresnet3d.cli.main import main; main()"
)
"""A shell's background job has Ctrl-C ignored, and what it starts inherits that."""


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    return application(compare.register, learning_curve.register)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Bundle and data of a command line."""
    folder = tmp_path_factory.mktemp("inputs")
    bundle, manifest = write_toy_bundle(folder / "toy_cubes"), write_cubes(folder / "data", cases=32)
    return [str(bundle), "--data", str(manifest), "--workers", "1"]


def test_compare_prints_what_the_evidence_says(app: typer.Typer, inputs: list[str], tmp_path: Path) -> None:
    arguments = ["compare", *inputs, "-o", str(tmp_path / "out"), "--vary", "learning_rate=0.01,0.001"]
    result = CliRunner().invoke(app, [*arguments, "--seeds", "2", "--budget", "4steps"])
    assert result.exit_code == 0, result.output
    assert "auc" in result.output and "evidence" in result.output
    assert str(tmp_path / "out" / "report.html") in result.output
    assert (tmp_path / "out" / "results.csv").is_file()


def test_failed_cells_show_in_the_exit_code(app: typer.Typer, inputs: list[str], tmp_path: Path) -> None:
    arguments = ["compare", *inputs, "-o", str(tmp_path / "out"), "--seeds", "1", "--budget", "3steps"]
    assert CliRunner().invoke(app, [*arguments, "--vary", "learning_rate=0.01,1e30"]).exit_code == 1
    assert CliRunner().invoke(app, [*arguments, "--vary", "learning_rate=1e29,1e30"]).exit_code == 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "either vary"),
        (["--vary", "learning_rate=1,2", "--preset", "survey-losses"], "either vary"),
        (["--vary", "learning_rate=1"], "one value alone"),
        (["--vary", "learning_rate=1,2", "--budget", "soon"], "means nothing"),
        (["--vary", "batch_size=1,2", "--learning-rates", "a,b"], "give numbers separated by commas"),
        (["--vary", "batch_size=1,2", "--workers", "some"], "give auto or a number"),
        (["--preset", "survey-loses"], "Did you mean 'survey-losses'?"),
    ],
)
def test_wrong_usage_is_one_sentence(
    app: typer.Typer, inputs: list[str], tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    result = CliRunner().invoke(app, ["compare", *inputs, "-o", str(tmp_path / "out"), *arguments])
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert sentence in line


def test_nothing_to_compare_is_said(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["compare", "--vary", "a=1,2"])
    assert result.exit_code == 2 and "Give a BUNDLE, --data MANIFEST and -o OUT" in result.output


def test_shares_of_a_learning_curve_are_checked(app: typer.Typer, inputs: list[str], tmp_path: Path) -> None:
    arguments = ["learning-curve", *inputs, "-o", str(tmp_path / "out"), "--fractions"]
    for wrong in ("1", "0,1", "0.5,1.5"):
        result = CliRunner().invoke(app, [*arguments, wrong])
        assert result.exit_code == 2 and "two or more numbers from 0 to 1" in result.output
    result = CliRunner().invoke(app, [*arguments, "0.5,1"])
    assert result.exit_code == 2 and "has no id 'training_fraction'" in result.output


@pytest.mark.slow
def test_ctrl_c_in_a_real_process_leaves_what_the_same_command_goes_on_with(inputs: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["compare", *inputs[:-1], "2", "-o", str(out), "--vary", "learning_rate=0.01,0.001", "--seeds", "30"]
    arguments += ["--budget", "40steps"]
    command = [sys.executable, "-c", COMMAND, *arguments]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while len(list(out.glob("cells/*/result.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGINT)
    _, told = child.communicate(timeout=300)
    assert child.returncode == 130, told
    assert "of 60 cells finished" in told and "Traceback" not in told
    assert f"Go on with: medresnet3d {' '.join(arguments)}" in told
    kept = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/result.json")}
    assert 3 <= len(kept) < 60
    again = [*arguments[: arguments.index("--seeds")], "--seeds", "3", "--budget", "40steps"]
    done = subprocess.run([sys.executable, "-c", COMMAND, *again], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())


def test_the_help_names_every_preset() -> None:
    """Whole, or by what comes after the name of its group."""
    words = re.findall(r"[\w-]+", CliRunner().invoke(main_app, ["compare", "--help"]).output)
    for name in [*presets(), ALL]:
        assert {name, name.removeprefix("survey").removeprefix("lung-networks")} & set(words), name
