from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from medresnet3d.cli.train import register
from tests.cli.application import application
from tests.workflows.toy_bundle import write_cubes, write_toy_bundle

COMMAND = "import torch; torch.set_num_threads(1); from medresnet3d.cli.main import main; main()"


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    return application(register)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Bundle and data of a command line."""
    folder = tmp_path_factory.mktemp("inputs")
    bundle, manifest = write_toy_bundle(folder / "toy_cubes"), write_cubes(folder / "data")
    return ["train", str(bundle), "--data", str(manifest)]


def test_train_prints_the_figures_and_where_things_are(app: typer.Typer, inputs: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*inputs, "-o", str(tmp_path / "run"), "--set", "max_epochs=2"])
    assert result.exit_code == 0, result.output
    assert "2 epochs in" in result.output and "auc" in result.output
    assert str(tmp_path / "run" / "bundle") in result.output
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--set", "max_epoch=2"], "did you mean 'max_epochs'?"),
        (["--set", "max_epochs"], "write it as id=value"),
        (["--device", "cuda:7"], "CUDA device"),
        (["--resume"], "holds no run to resume"),
    ],
)
def test_wrong_usage_is_one_sentence(
    app: typer.Typer, inputs: list[str], tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    result = CliRunner().invoke(app, [*inputs, "-o", str(tmp_path / "run"), *arguments])
    assert result.exit_code == 2
    (line,) = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert sentence in line


def test_ctrl_c_in_a_real_process_saves_and_resumes(app: typer.Typer, inputs: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = [*inputs, "-o", str(run), "--set", "max_epochs=400", "--set", "checkpoint_seconds=0"]
    child = subprocess.Popen([sys.executable, "-c", COMMAND, *arguments], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not (run / "checkpoints" / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGINT)
    _, told = child.communicate(timeout=300)
    assert child.returncode == 130, told
    assert "the state is saved in" in told
    assert f"medresnet3d {' '.join(arguments)} --resume" in told
    assert "Traceback" not in told
    before = (run / "checkpoints" / "last.pt").stat().st_mtime_ns
    result = CliRunner().invoke(app, [*inputs, "-o", str(run), "--resume", "--set", "max_epochs=5"])
    assert result.exit_code == 2
    assert "max_epochs was 400 and is 5" in result.output
    assert (run / "checkpoints" / "last.pt").stat().st_mtime_ns == before
