from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from medresnet3d.errors import DataError
from medresnet3d.workflows import search_trial, search_worker
from medresnet3d.workflows.search_ledger import Ledger
from medresnet3d.workflows.search_worker import Workers, work
from tests.workflows.searching import ToyTraining, make_job


def test_work_ends_when_all_trials_are_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = ToyTraining(tmp_path / "log.txt")
    monkeypatch.setattr(search_trial, "train", training)
    job = make_job(tmp_path / "s", method="pso", trials=5, population=2)
    handed_in: list[int] = []
    work(Ledger(job), lambda text: None, lambda: None, lambda: handed_in.append(1))
    assert Ledger(job).finished()
    assert len(handed_in) == 5
    work(Ledger(job), lambda text: None, lambda: None, lambda: handed_in.append(1))
    assert len(handed_in) == 5


def test_a_worker_process_tells_an_error_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(tmp_path, storage="nonsense://x")
    monkeypatch.setattr(sys, "stdin", io.StringIO(job.to_json()))
    assert search_worker.main(1) == 2
    assert capsys.readouterr().err.startswith("Error: --storage nonsense://x: it cannot be opened")


def test_an_orphan_interrupts_itself_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    check = search_worker._watch(os.getppid())
    check()
    assert not sent
    monkeypatch.setattr(os, "getppid", lambda: 1)
    check()
    check()
    assert sent == [(os.getpid(), signal.SIGINT)]


def test_workers_that_die_at_once_end_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    popen = subprocess.Popen

    def start(command: list[str], **options: Any) -> Any:
        return popen([sys.executable, "-c", "import sys; sys.stdin.read(); sys.exit(7)"], **options)

    monkeypatch.setattr(subprocess, "Popen", start)
    workers = Workers(make_job(tmp_path), 2)
    workers.start()
    with pytest.raises(DataError, match=r"die at once .exit code 7.; run it with --workers 1 to see why"):
        while workers.tend(False):
            pass
    workers.kill()


def test_ctrl_c_is_passed_on_and_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    popen = subprocess.Popen
    script = f"""
import os, pathlib, sys, time
sys.stdin.read()
folder = pathlib.Path({str(tmp_path)!r})
try:
    (folder / f"ready{{os.getpid()}}").touch()
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.3)
    (folder / f"saved{{os.getpid()}}").touch()
"""
    monkeypatch.setattr(
        subprocess, "Popen", lambda command, **options: popen([sys.executable, "-c", script], **options)
    )
    workers = Workers(make_job(tmp_path / "s"), 2)
    workers.start()
    while len(list(tmp_path.glob("ready*"))) < 2:
        time.sleep(0.02)
    workers.stop()
    assert len(list(tmp_path.glob("saved*"))) == 2
    assert not workers.tend(True)


def test_workers_are_spread_over_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert search_worker._devices("auto", 3) == ["cuda:0", "cuda:1", "cuda:0"]
    assert search_worker._devices("cpu", 2) == ["cpu", "cpu"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert search_worker._devices("auto", 2) == ["auto", "auto"]
