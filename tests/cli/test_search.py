from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from medresnet3d.cli.search import register
from medresnet3d.workflows import search_trial
from tests.cli.application import application
from tests.workflows.searching import SPACE, ToyTraining
from tests.workflows.toy_bundle import write_cubes, write_toy_bundle

COMMAND = "import torch; torch.set_num_threads(1); from medresnet3d.cli.main import main; main()"


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    return application(register)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Bundle, data and space of a command line."""
    folder = tmp_path_factory.mktemp("inputs")
    bundle, manifest = write_toy_bundle(folder / "toy_cubes"), write_cubes(folder / "data")
    (folder / "space.json").write_text(json.dumps(SPACE))
    return ["search", str(bundle), "--data", str(manifest), "--space", str(folder / "space.json")]


def test_search_prints_the_best_and_how_to_go_on(
    app: typer.Typer, inputs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_trial, "train", ToyTraining(tmp_path / "log.txt"))
    arguments = [*inputs, "-o", str(tmp_path / "out"), "--method", "whale", "--trials", "4", "--population", "2"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "best auc 0." in result.output and "of 4): learning_rate=" in result.output
    assert "It was chosen on the validation cases, so it flatters." in result.output
    assert f"  medresnet3d evaluate {tmp_path}/out/trials/" in result.output
    assert (
        f"  medresnet3d train {inputs[1]} --data {inputs[3]} -o {tmp_path}/out-best --set learning_rate="
        in result.output
    )
    assert (tmp_path / "out" / "report.html").is_file()


def test_failed_trials_are_told_and_in_the_exit_code(
    app: typer.Typer, inputs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_trial, "train", ToyTraining(tmp_path / "log.txt"))
    space = {**SPACE, "learning_rate": {"type": "categorical", "choices": [0.9]}}
    space["batch_size"] = {"type": "categorical", "choices": [8]}
    (tmp_path / "space.json").write_text(json.dumps(space))
    arguments = [*inputs[:-1], str(tmp_path / "space.json"), "-o", str(tmp_path / "out"), "--trials", "4"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 3
    assert "Error: trial 0: The training loss became nan." in result.output
    assert "and 1 more failed trials" in result.output
    assert "No trial has come to a value." in result.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--method", "anneal"], "--method is 'anneal'; use one of optuna"),
        (["--trials", "0"], "--trials is 0"),
        (["--storage", "nonsense"], "--storage nonsense: it cannot be opened"),
        (["--space", "none.json"], "none.json: there is no such file"),
    ],
)
def test_wrong_usage_is_one_sentence(
    app: typer.Typer, inputs: list[str], tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    result = CliRunner().invoke(app, [*inputs, "-o", str(tmp_path / "out"), *arguments])
    assert result.exit_code == 2
    (line,) = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert sentence in line


def test_ctrl_c_in_a_real_process_saves_and_says_how_to_go_on(inputs: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = [*inputs, "-o", str(out), "--method", "random", "--trials", "2"]
    arguments += ["--set", "max_epochs=400", "--set", "checkpoint_seconds=0"]
    child = subprocess.Popen([sys.executable, "-c", COMMAND, *arguments], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not (out / "trials" / "0000" / "checkpoints" / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGINT)
    _, told = child.communicate(timeout=300)
    assert child.returncode == 130, told
    assert "Stopped after 0 of 2 trials. Go on with: medresnet3d search" in told
    assert "Traceback" not in told
    assert (out / "trials" / "0000" / "checkpoints" / "last.pt").exists()
    assert (out / "report.html").is_file()
