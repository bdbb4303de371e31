from __future__ import annotations

import csv
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from medresnet3d.engines import TrainingInterrupted, load_checkpoint, train_handlers
from medresnet3d.errors import ConfigError, DataError, WeightsError
from tests.engines.toy import kill_self, make_trainer, run_in_child


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as handle:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(handle)]


def assert_same(first: Any, second: Any, where: str = "checkpoint") -> None:
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            if key not in ("seconds", "random"):
                assert_same(first[key], second[key], f"{where}/{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for i, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_same(one, other, f"{where}/{i}")
    else:
        assert first == second, where


def assert_same_run(first: Path, second: Path) -> None:
    """Same weights, optimizer, schedule and history, bit for bit; only times may differ."""
    for name in ("last", "best"):
        one, other = (load_checkpoint(folder / "checkpoints" / f"{name}.pt") for folder in (first, second))
        assert_same(one, other)
    assert rows(first) == rows(second)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    make_trainer(folder).run()
    return folder


def test_run_leaves_metrics_checkpoints_and_tensorboard(unbroken: Path) -> None:
    table = rows(unbroken)
    assert [row["epoch"] for row in table] == ["1", "2", "3", "4"]
    assert [row["iteration"] for row in table] == ["4", "8", "12", "16"]
    assert set(table[0]) == {"epoch", "iteration", "train_loss", "lr", "val_auc"}
    assert list((unbroken / "tensorboard").glob("events.out.tfevents.*"))
    state = torch.load(unbroken / "checkpoints" / "last.pt", weights_only=True)
    assert set(state["random"]) >= {"torch", "numpy", "python"}
    assert state["session"]["finished"] is True
    assert state["trainer"]["iteration"] == 16


def test_same_seed_same_result_another_seed_another(unbroken: Path, tmp_path: Path) -> None:
    make_trainer(tmp_path / "again").run()
    assert_same_run(unbroken, tmp_path / "again")
    make_trainer(tmp_path / "other", seed=1).run()
    assert rows(unbroken) != rows(tmp_path / "other")


def test_worker_processes_do_not_change_the_result(unbroken: Path, tmp_path: Path) -> None:
    make_trainer(tmp_path, workers=2).run()
    assert_same_run(unbroken, tmp_path)


def test_killed_at_random_times_ends_like_the_unbroken_run(unbroken: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    run_in_child(lambda: make_trainer(tmp_path / "timed", checkpoint_seconds=0).run()).join()
    whole = time.monotonic() - started
    chance = random.Random(0)
    kills = runs = 0
    while kills < 8:
        runs += 1
        folder = tmp_path / str(runs)
        child = None
        while child is None or child.exitcode != 0:
            child = run_in_child(lambda: make_trainer(folder, resume=True, checkpoint_seconds=0).run())  # noqa: B023
            child.join(chance.uniform(0, whole))
            if child.is_alive():
                os.kill(child.pid, signal.SIGKILL)
                kills += 1
            child.join()
            assert child.exitcode in (0, -signal.SIGKILL)
        assert_same_run(unbroken, folder)


@pytest.mark.parametrize("moment", ["half written", "not renamed", "renamed"])
def test_killed_while_writing_each_checkpoint(unbroken: Path, tmp_path: Path, moment: str) -> None:
    """A child that dies at the third write of each life, at the given moment, still comes to the same end."""

    def run() -> None:
        writes = 0
        write_bytes, replace = Path.write_bytes, os.replace

        def dying_write(path: Path, content: Any) -> int:
            nonlocal writes
            writes += 1
            if writes == 3 and moment == "half written":
                write_bytes(path, bytes(content)[: len(content) // 2])
                kill_self()
            return write_bytes(path, content)

        def dying_replace(source: Any, target: Any) -> None:
            if writes == 3 and moment == "not renamed":
                kill_self()
            replace(source, target)
            if writes == 3 and moment == "renamed":
                kill_self()

        Path.write_bytes, os.replace = dying_write, dying_replace  # type: ignore[method-assign, assignment]
        make_trainer(tmp_path, resume=True, checkpoint_seconds=0).run()

    lives = 0
    exit_code = None
    while exit_code != 0:
        child = run_in_child(run)
        child.join()
        exit_code = child.exitcode
        lives += 1
        assert exit_code in (0, -signal.SIGKILL)
        assert lives < 30
    assert lives > 5
    assert not list((tmp_path / "checkpoints").glob(".*"))
    assert_same_run(unbroken, tmp_path)


def test_resuming_with_workers_gives_the_same_result(unbroken: Path, tmp_path: Path) -> None:
    interrupt_after(tmp_path, 6)
    make_trainer(tmp_path, resume=True, workers=2).run()
    assert_same_run(unbroken, tmp_path)


def interrupt_after(folder: Path, iteration: int, **options: Any) -> str:
    """Train until Ctrl-C comes in the given iteration; return what the user is told."""
    trainer = make_trainer(folder, **options)

    def press(engine: Any) -> None:
        if engine.state.iteration == iteration:
            os.kill(os.getpid(), signal.SIGINT)

    trainer.add_event_handler("ITERATION_STARTED" if iteration else "STARTED", press)
    with pytest.raises(TrainingInterrupted) as caught:
        trainer.run()
    return str(caught.value)


@pytest.mark.parametrize("iteration", [1, 6, 8])
def test_ctrl_c_finishes_the_iteration_and_saves(unbroken: Path, tmp_path: Path, iteration: int) -> None:
    before = signal.getsignal(signal.SIGINT)
    message = interrupt_after(tmp_path, iteration)
    assert f"iteration {iteration} of 16" in message
    assert str(tmp_path / "checkpoints" / "last.pt") in message
    assert signal.getsignal(signal.SIGINT) is before
    assert load_checkpoint(tmp_path / "checkpoints" / "last.pt")["trainer"]["iteration"] == iteration
    make_trainer(tmp_path, resume=True).run()
    assert_same_run(unbroken, tmp_path)


def test_ctrl_c_during_validation_repeats_the_validation(unbroken: Path, tmp_path: Path) -> None:
    trainer: Any = make_trainer(tmp_path)
    trainer.toy_validator.add_event_handler("ITERATION_STARTED", lambda _: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(TrainingInterrupted, match="iteration 4 of 16"):
        trainer.run()
    assert load_checkpoint(tmp_path / "checkpoints" / "last.pt")["session"]["history"] == []
    make_trainer(tmp_path, resume=True).run()
    assert_same_run(unbroken, tmp_path)


def test_resuming_a_finished_run_changes_nothing(unbroken: Path, tmp_path: Path) -> None:
    make_trainer(tmp_path).run()
    make_trainer(tmp_path, resume=True).run()
    assert_same_run(unbroken, tmp_path)


def test_a_new_run_forgets_an_old_one(tmp_path: Path) -> None:
    make_trainer(tmp_path, seed=1).run()
    trainer = make_trainer(tmp_path)
    trainer.add_event_handler("ITERATION_COMPLETED", lambda: (_ for _ in ()).throw(RuntimeError("the power went")))
    with pytest.raises(RuntimeError, match="the power went"):
        trainer.run()
    assert not list((tmp_path / "checkpoints").iterdir())
    assert not (tmp_path / "metrics.csv").exists()


def test_the_network_ends_with_the_best_weights(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, epochs=6)
    trainer.run()
    best = load_checkpoint(tmp_path / "checkpoints" / "best.pt")
    values = [float(row["val_auc"]) for row in rows(tmp_path)]
    assert best["session"]["best_epoch"] == 1 + values.index(max(values))
    assert best["session"]["best_metric"] == max(values)
    assert_same(dict(trainer.network.state_dict()), best["network"])


def test_early_stopping_waits_and_survives_a_resume(tmp_path: Path) -> None:
    # nothing is learnt with a learning rate of 0, so the first validation stays the best (batch statistics move a bit)
    options: dict[str, Any] = {"epochs": 20, "learning_rate": 0.0, "early_stopping": 3}
    make_trainer(tmp_path / "one", **options).run()
    best = load_checkpoint(tmp_path / "one" / "checkpoints" / "best.pt")["session"]["best_epoch"]
    assert len(rows(tmp_path / "one")) == best + 3 < 20
    interrupt_after(tmp_path / "two", 4 * best + 6, **options)
    make_trainer(tmp_path / "two", resume=True, **options).run()
    assert_same_run(tmp_path / "one", tmp_path / "two")


def test_early_stopping_restores_the_best_weights(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, epochs=40, learning_rate=0.1, early_stopping=3)
    trainer.run()
    last, best = (load_checkpoint(tmp_path / "checkpoints" / f"{name}.pt") for name in ("last", "best"))
    epochs = len(rows(tmp_path))
    assert best["session"]["best_epoch"] == epochs - 3 < 37
    assert best["trainer"]["iteration"] == 4 * (epochs - 3)
    assert_same(dict(trainer.network.state_dict()), best["network"])
    assert any(not torch.equal(value, best["network"][name]) for name, value in last["network"].items())


def test_killed_between_the_last_epoch_and_the_end_of_an_early_stop(tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 20, "learning_rate": 0.0, "early_stopping": 2}
    make_trainer(tmp_path / "one", **options).run()
    trainer = make_trainer(tmp_path / "two", checkpoint_seconds=0, **options)
    trainer.add_event_handler("TERMINATE", lambda: (_ for _ in ()).throw(RuntimeError("the power went")))
    with pytest.raises(RuntimeError, match="the power went"):
        trainer.run()
    make_trainer(tmp_path / "two", resume=True, **options).run()
    assert_same_run(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(
    ("schedule", "unit"), [("cosine", "iteration"), ("plateau", "epoch"), ("adaptive", "iteration")]
)
def test_schedules_survive_a_resume(tmp_path: Path, schedule: str, unit: str) -> None:
    options: dict[str, Any] = {"schedule": schedule, "lr_unit": unit}
    make_trainer(tmp_path / "one", **options).run()
    rates = {row["lr"] for row in rows(tmp_path / "one")}
    assert len(rates) > 1
    interrupt_after(tmp_path / "two", 7, **options)
    make_trainer(tmp_path / "two", resume=True, **options).run()
    assert_same_run(tmp_path / "one", tmp_path / "two")


def test_saving_the_best_does_not_put_off_saving_the_last(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, epochs=2, checkpoint_seconds=3600)
    handlers = trainer.toy_handlers  # type: ignore[attr-defined]
    ages: list[float] = []
    trainer.add_event_handler("EPOCH_COMPLETED", lambda: ages.append(time.monotonic() - handlers._saved_at))
    trainer.add_event_handler("ITERATION_STARTED", lambda: time.sleep(0.02))
    trainer.run()
    assert load_checkpoint(tmp_path / "checkpoints" / "best.pt")["session"]["best_epoch"] > 0
    assert all(age >= 0.02 * 4 * epoch for epoch, age in enumerate(ages, start=1))


def test_validation_interval_and_the_last_epoch(tmp_path: Path) -> None:
    make_trainer(tmp_path, epochs=5, interval=2).run()
    assert [row["epoch"] for row in rows(tmp_path) if row["val_auc"]] == ["2", "4", "5"]


def test_without_validation_the_last_weights_are_the_best(tmp_path: Path) -> None:
    make_trainer(tmp_path, validate=False).run()
    last, best = (load_checkpoint(tmp_path / "checkpoints" / f"{name}.pt") for name in ("last", "best"))
    assert_same(last["network"], best["network"])


def test_nan_loss_stops_with_a_sentence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def broken(output: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return output.sum() * float("nan")

    with pytest.raises(DataError, match=r"loss became nan in iteration 1 \(epoch 1\).*learning rate"):
        make_trainer(tmp_path, loss=broken).run()


def test_resuming_another_seed_or_network_is_refused(tmp_path: Path) -> None:
    interrupt_after(tmp_path, 2)
    with pytest.raises(ConfigError, match="seed was 0 and is 1"):
        make_trainer(tmp_path, resume=True, seed=1).run()
    other = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(512, 2))
    with pytest.raises(WeightsError, match="does not fit the network"):
        make_trainer(tmp_path, resume=True, net=other).run()


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: Any) -> int:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match=r"last\.pt: the disk is full"):
        make_trainer(tmp_path, checkpoint_seconds=0).run()


def test_adaptive_cosine_observes_the_key_metric(tmp_path: Path) -> None:
    # nothing is learnt with a learning rate of 0, so that hardly any validation is better than the one before
    trainer = make_trainer(tmp_path, epochs=8, learning_rate=0.0, schedule="adaptive", lr_unit="iteration")
    trainer.run()
    schedule = trainer.toy_handlers.lr_scheduler.schedule  # type: ignore[attr-defined]
    values = [float(row["val_auc"]) for row in rows(tmp_path)]
    assert schedule.best == max(values)
    assert schedule.cycle == sum(value <= max(values[:i]) for i, value in enumerate(values) if i) > 2


@pytest.mark.parametrize("steps", [3, 4, 6, 15])
def test_max_steps_ends_the_run_as_the_last_epoch_would(tmp_path: Path, steps: int) -> None:
    options: dict[str, Any] = {"interval": 3, "trainer_options": {"max_steps": steps}}
    make_trainer(tmp_path / "one", **options).run()
    table = rows(tmp_path / "one")
    assert [int(row["iteration"]) for row in table] == [*range(4, steps, 4), steps]
    assert table[-1]["val_auc"]
    last, best = (load_checkpoint(tmp_path / "one" / "checkpoints" / f"{name}.pt") for name in ("last", "best"))
    assert last["trainer"]["iteration"] == steps and last["session"]["finished"] is True
    assert best["trainer"]["iteration"] <= steps
    make_trainer(tmp_path / "one", resume=True, **options).run()  # changes nothing
    make_trainer(tmp_path / "two", **options).run()
    assert_same_run(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize("iteration", [1, 5, 6])
def test_a_run_of_max_steps_resumes_bit_equal(tmp_path: Path, iteration: int) -> None:
    options: dict[str, Any] = {"trainer_options": {"max_steps": 6}}
    make_trainer(tmp_path / "one", **options).run()
    assert "of 6 (epoch" in interrupt_after(tmp_path / "two", iteration, **options)
    make_trainer(tmp_path / "two", resume=True, **options).run()
    assert_same_run(tmp_path / "one", tmp_path / "two")


def test_killed_before_the_last_validation_a_run_of_max_steps_ends_the_same(tmp_path: Path) -> None:
    options: dict[str, Any] = {"checkpoint_seconds": 0, "interval": 10, "trainer_options": {"max_steps": 6}}
    make_trainer(tmp_path / "one", **options).run()
    trainer = make_trainer(tmp_path / "two", **options)
    trainer.toy_validator.add_event_handler(  # type: ignore[attr-defined]
        "STARTED", lambda: (_ for _ in ()).throw(RuntimeError("the power went"))
    )
    with pytest.raises(RuntimeError, match="the power went"):
        trainer.run()
    assert load_checkpoint(tmp_path / "two" / "checkpoints" / "last.pt")["trainer"]["iteration"] == 6
    make_trainer(tmp_path / "two", resume=True, **options).run()
    assert_same_run(tmp_path / "one", tmp_path / "two")


def test_max_steps_beyond_the_epochs_is_said(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="4 epochs of 4 iterations end after 16; raise max_epochs"):
        make_trainer(tmp_path / "one", trainer_options={"max_steps": 17}).run()
    make_trainer(tmp_path / "two").run()
    assert_same_run(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"interval": 0}, "interval is 0"),
        ({"lr_unit": "hour"}, 'lr_unit is "hour"'),
        ({"early_stopping": 3}, "early_stopping is 3"),
    ],
)
def test_impossible_options(tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        train_handlers(tmp_path, **options)
