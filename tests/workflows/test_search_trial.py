from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from medresnet3d.engines.epochs import tell_epoch
from medresnet3d.workflows import search_trial
from medresnet3d.workflows.search_job import SearchJob
from medresnet3d.workflows.search_ledger import Ledger, TrialRecord
from medresnet3d.workflows.search_trial import Heartbeat, TrialRun
from tests.workflows.searching import EPOCHS, ToyTraining, make_job, quality


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ToyTraining:
    toy = ToyTraining(tmp_path / "log.txt")
    monkeypatch.setattr(search_trial, "train", toy)
    return toy


def run(job: SearchJob, ledger: Ledger | None = None, said: list[str] | None = None) -> TrialRecord:
    """Run the next trial and give its record."""
    ledger = ledger or Ledger(job)
    claimed = ledger.claim()
    assert claimed is not None
    trial, record = claimed
    TrialRun(job, ledger, trial, record, (said if said is not None else []).append, lambda: None).run()
    return ledger.records()[record.slot]


def test_a_trial_trains_with_its_values_and_hands_in_the_metric(training: ToyTraining, tmp_path: Path) -> None:
    said: list[str] = []
    record = run(make_job(tmp_path / "s", overrides={"weight_decay": 0.1}), said=said)
    assert record.value == quality(record.values)
    assert list(record.curve) == [1, 2, 3, 4]
    assert record.notes["set"] == {"weight_decay": 0.1, **record.values}
    assert record.notes["place"] == str(tmp_path / "s" / "trials" / "0000")
    assert (record.notes["epochs"], record.notes["best_epoch"]) == (EPOCHS, EPOCHS)
    assert said[0].startswith("trial 0, epoch 1: ")


@pytest.mark.parametrize(("objective", "maximise", "epoch"), [("last", True, 4), ("best", True, 4), ("best", False, 1)])
def test_the_objective_chooses_the_epoch(
    objective: str, maximise: bool, epoch: int, training: ToyTraining, tmp_path: Path
) -> None:
    record = run(make_job(tmp_path / "s", objective=objective, maximise=maximise))
    assert record.value == pytest.approx(quality(record.values) * epoch / EPOCHS)
    assert record.notes["best_epoch"] == (4 if maximise else 1)


def test_worse_than_the_median_is_pruned(training: ToyTraining, tmp_path: Path) -> None:
    job = make_job(tmp_path / "s", method="random", trials=14, prune=True)
    ledger = Ledger(job)
    records = [run(job, ledger) for _ in range(14)]
    pruned = [one for one in records if one.state == "pruned"]
    complete = [one for one in records if one.state == "complete"]
    assert pruned and all(max(one.curve) > EPOCHS / 4 for one in pruned)
    assert len(training.lines()) < 14 * (EPOCHS + 1)
    assert max(quality(one.values) for one in pruned) < max(one.value or 0 for one in complete)


def test_epochs_of_the_timing_of_a_budget_are_not_the_trials(
    training: ToyTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def time_it(*arguments: Any) -> dict[str, int]:
        tell_epoch({"epoch": 1, "val_auc": 0.123})
        return {"max_epochs": 5}

    monkeypatch.setattr(search_trial, "length_overrides", time_it)
    record = run(make_job(tmp_path / "s", budget="9s"))
    assert record.notes["set"]["max_epochs"] == 5
    assert 0.123 not in record.curve.values()


def test_failures_are_recorded_with_their_cause(training: ToyTraining, tmp_path: Path) -> None:
    space: dict[str, Any] = {
        "learning_rate": {"type": "float", "low": 0.6, "high": 1.0},
        "features": {"type": "int", "low": 2, "high": 8},
        "batch_size": {"type": "categorical", "choices": [8]},
    }
    record = run(make_job(tmp_path / "s", space=space))
    assert (record.state, record.notes["error"]) == ("failed", "The training loss became nan.")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (RuntimeError("CUDA out of memory\nmore lines"), "RuntimeError: CUDA out of memory"),
        (MemoryError(), "MemoryError: no message"),
    ],
)
def test_errors_of_other_libraries_are_recorded_in_one_line(
    error: Exception, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("while building a component") from error

    monkeypatch.setattr(search_trial, "train", fail)
    assert run(make_job(tmp_path / "s")).notes["error"] == sentence


def test_another_metric_than_the_tables_is_said(training: ToyTraining, tmp_path: Path) -> None:
    record = run(make_job(tmp_path / "s", metric="val_dice"))
    assert record.state == "failed" and "no column val_dice" in record.notes["error"]


def test_ctrl_c_hands_the_trial_back_and_it_goes_on(
    training: ToyTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path / "s")
    report = search_trial.TrialRun._listen

    def interrupt(self: TrialRun, row: Any) -> None:
        report(self, row)
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(search_trial.TrialRun, "_listen", interrupt)
        run(job)
    assert Ledger(job).records()[0].state == "waiting"
    record = run(job)
    assert record.state == "complete"
    assert training.lines() == [*(f"0000 epoch {epoch}" for epoch in range(1, 5)), "0000 end"]


def test_a_run_folder_of_other_values_is_started_anew(training: ToyTraining, tmp_path: Path) -> None:
    folder = tmp_path / "s" / "trials" / "0000"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "environment.json").write_text(json.dumps({"overrides": {"learning_rate": 0.5, "features": 2}}))
    (folder / "old.txt").write_text("")
    assert run(make_job(tmp_path / "s")).state == "complete"
    assert not (folder / "old.txt").exists()


def test_the_same_values_are_not_trained_with_twice(training: ToyTraining, tmp_path: Path) -> None:
    space: dict[str, Any] = {name: {"type": "categorical", "choices": [2]} for name in ("features", "batch_size")}
    space["learning_rate"] = {"type": "categorical", "choices": [0.01]}
    job = make_job(tmp_path / "s", space=space, trials=3)
    ledger = Ledger(job)
    first, second, third = (run(job, ledger) for _ in range(3))
    assert first.value == second.value == third.value
    assert (second.notes["same_as"], third.notes["same_as"]) == (0, 0)
    assert third.notes["place"] == first.notes["place"]
    assert training.lines().count("0000 end") == 1 and len(training.lines()) == EPOCHS + 1


def test_who_was_taken_for_dead_stops_and_leaves_the_folder(
    training: ToyTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path / "s", trials=1)
    ledger = Ledger(job)
    trial, record = ledger.claim() or (None, None)
    assert trial is not None and record is not None
    monkeypatch.setattr(search_trial, "BEAT_S", 0.01)
    training.pause = 0.3
    ledger.study.tell(trial.number, state=ledger._states.FAIL)
    (tmp_path / "s" / "trials" / "0000" / "checkpoints").mkdir(parents=True)
    attempt = TrialRun(job, ledger, trial, record, lambda text: None, lambda: None)
    monkeypatch.setattr(attempt, "_train", lambda: attempt._listen(_after_a_beat(attempt)))
    attempt.run()
    assert (tmp_path / "s" / "trials" / "0000" / "checkpoints").exists()
    assert ledger.records()[0].state == "waiting"


def _after_a_beat(attempt: TrialRun) -> dict[str, float]:
    deadline = time.monotonic() + 30
    while not attempt._heart.lost and time.monotonic() < deadline:
        time.sleep(0.01)
    assert attempt._heart.lost
    return {"epoch": 1, "val_auc": 0.5}


def test_a_heart_beats_and_looks_after_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_trial, "BEAT_S", 0.01)
    ledger = Ledger(make_job(tmp_path, trials=1))
    claimed = ledger.claim()
    assert claimed is not None
    checks: list[int] = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    with pytest.raises(KeyboardInterrupt), Heartbeat(claimed[0], lambda: checks.append(1)):
        deadline = time.monotonic() + 30
        while len(checks) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(30)
    signal.signal(signal.SIGINT, before)
    assert ledger.study.trials[0].user_attrs["beat"] >= 2
