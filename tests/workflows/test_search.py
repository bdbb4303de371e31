from __future__ import annotations

import csv
import json
import os
import random
import shlex
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from medresnet3d.errors import BundleError, ConfigError, DataError, ExitCode
from medresnet3d.workflows import search_ledger, search_outcome, search_trial
from medresnet3d.workflows.search import SearchInterrupted, search
from medresnet3d.workflows.search_outcome import SearchResult
from medresnet3d.workflows.train import train
from tests.engines.toy import run_in_child
from tests.workflows.searching import SPACE, ToyTraining, quality
from tests.workflows.toy_bundle import write_cubes, write_toy_bundle


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cubes(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_bundle(tmp_path_factory.mktemp("bundles") / "toy_cubes")


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ToyTraining:
    toy = ToyTraining(tmp_path / "log.txt")
    monkeypatch.setattr(search_trial, "train", toy)
    monkeypatch.setattr(search_outcome, "_write_report", lambda *arguments: None)  # takes longer than all the rest
    return toy


def values_of(result: SearchResult) -> list[tuple[Any, ...]]:
    return [(one.state, one.value, *one.values.values()) for one in result.trials]


def test_a_real_search_leaves_everything(bundle: Path, manifest: Path, tmp_path: Path) -> None:
    space = {"learning_rate": {"type": "float", "low": 1e-4, "high": 0.1, "log": True}}
    out = tmp_path / "out"
    result = search(bundle, manifest, space, out, trials=2, budget="2epochs", set={"features": 2}, device="cpu")
    assert result.exit_code == ExitCode.OK
    assert {path.name for path in out.iterdir()} == {
        "best.json",
        "report.html",
        "search.json",
        "space.json",
        "study.db",
        "trials",
        "trials.csv",
    }
    assert {path.name for path in (out / "trials" / "0001").iterdir()} == {
        "bundle",
        "config.json",
        "environment.json",
        "metrics.csv",
        "report.html",
    }
    rows = list(csv.DictReader((out / "trials.csv").open()))
    assert [row["state"] for row in rows] == ["complete", "complete"]
    table = list(csv.DictReader((out / "trials" / "0000" / "metrics.csv").open()))
    assert float(rows[0]["val_auc"]) == float(table[-1]["val_auc"]) and len(table) == 2
    best = json.loads((out / "best.json").read_text())
    assert best == result.values and best.keys() == {"features", "learning_rate", "max_epochs"}
    assert result.best is not None
    # the values train again to the same figure
    again = train(bundle, manifest, tmp_path / "again", set=best, device="cpu")
    last = list(csv.DictReader((again / "metrics.csv").open()))[-1]
    assert float(last["val_auc"]) == result.best.value


@pytest.mark.parametrize("method", ["optuna", "random", "pso", "whale", "improved_whale"])
def test_every_method_goes_on_where_it_was_broken_off(
    method: str, training: ToyTraining, bundle: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"method": method, "trials": 7, "seed": 3}
    whole = search(bundle, manifest, SPACE, tmp_path / "whole", **options)
    done = training.lines()
    training.log.unlink()
    listen = search_trial.TrialRun._listen

    def interrupt(self: Any, row: Any) -> None:
        listen(self, row)
        if (self.record.slot, row["epoch"]) == (4, 1):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(SearchInterrupted, match="Stopped after 4 of 7 trials") as told:
        patch.setattr(search_trial.TrialRun, "_listen", interrupt)
        search(bundle, manifest, SPACE, tmp_path / "broken", **options)
    assert f"medresnet3d search {bundle} --data {manifest}" in str(told.value)
    broken = search(bundle, manifest, SPACE, tmp_path / "broken", **options)
    assert values_of(broken) == values_of(whole)
    assert training.lines() == done  # nothing was trained twice
    assert search(bundle, manifest, SPACE, tmp_path / "broken", **options).best == broken.best
    assert training.lines() == done


def test_searches_find_better_values_than_the_first_ones(
    training: ToyTraining, bundle: Path, manifest: Path, tmp_path: Path
) -> None:
    result = search(bundle, manifest, SPACE, tmp_path / "out", method="pso", trials=16, seed=1)
    first = max(one.value or 0.0 for one in result.trials[:4])
    assert result.best is not None and result.best.value is not None
    assert result.best.value > 1.2 * first
    assert result.best.value == quality(result.best.values)


def test_killed_at_random_times_and_started_again(
    training: ToyTraining, bundle: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_ledger, "MAX_DEATHS", 100)  # so often that one may die in the same first epoch
    options: dict[str, Any] = {"method": "pso", "trials": 8, "population": 3}
    whole = search(bundle, manifest, SPACE, tmp_path / "whole", **options)
    training.log.unlink()
    training.pause = 0.02
    chance, kills, exit_code = random.Random(0), 0, None
    while exit_code != 0:
        child = run_in_child(lambda: search(bundle, manifest, SPACE, tmp_path / "out", **options))
        child.join(chance.uniform(0.2, 2.0) if kills < 6 else None)
        if child.is_alive():
            os.kill(child.pid, signal.SIGKILL)
            kills += 1
        child.join()
        exit_code = child.exitcode
        assert exit_code in (0, -signal.SIGKILL)
    again = search(bundle, manifest, SPACE, tmp_path / "out", **options)
    assert values_of(again) == values_of(whole)
    trained = [line for line in training.lines() if "epoch" in line]
    assert len(trained) == len(set(trained))  # no epoch that was saved was trained again


def test_two_machines_share_a_search(training: ToyTraining, bundle: Path, manifest: Path, tmp_path: Path) -> None:
    storage = f"journal:{tmp_path / 'shared.log'}"
    training.company = (tmp_path / "here", tmp_path / "there")
    options: dict[str, Any] = {"method": "whale", "trials": 9, "population": 3, "storage": storage}
    other = run_in_child(lambda: search(bundle, manifest, SPACE, tmp_path / "there", **options))
    here = search(bundle, manifest, SPACE, tmp_path / "here", **options)
    other.join()
    assert other.exitcode == 0
    places = {Path(one.notes["place"]).parents[1].name for one in here.trials}
    assert places == {"here", "there"}
    training.company = ()
    alone = search(bundle, manifest, SPACE, tmp_path / "alone", method="whale", trials=9, population=3)
    assert values_of(here) == values_of(alone)
    assert len((tmp_path / "there" / "trials.csv").read_text().splitlines()) == 10


def test_more_trials_go_on_with_a_search(training: ToyTraining, bundle: Path, manifest: Path, tmp_path: Path) -> None:
    short = search(bundle, manifest, SPACE, tmp_path / "out", trials=3)
    longer = search(bundle, manifest, SPACE, tmp_path / "out", trials=5)
    assert values_of(longer)[:3] == values_of(short)
    assert len(longer.trials) == 5
    search(bundle, manifest, SPACE, tmp_path / "swarm", method="pso", trials=4)
    with pytest.raises(ConfigError, match="trials was 4 and is 6"):
        search(bundle, manifest, SPACE, tmp_path / "swarm", method="pso", trials=6)


def test_failed_trials_do_not_end_a_search(training: ToyTraining, bundle: Path, manifest: Path, tmp_path: Path) -> None:
    space = {**SPACE, "learning_rate": {"type": "categorical", "choices": [0.01, 0.9]}}
    space["batch_size"] = {"type": "categorical", "choices": [8]}
    result = search(bundle, manifest, space, tmp_path / "out", method="random", trials=8, prune=False)
    states = {one.values["learning_rate"]: one.state for one in result.trials}
    assert states == {0.01: "complete", 0.9: "failed"}
    assert result.exit_code == ExitCode.SOME_FAILED
    assert "The training loss became nan." in (tmp_path / "out" / "trials.csv").read_text()
    space["learning_rate"] = {"type": "categorical", "choices": [0.9]}
    nothing = search(bundle, manifest, space, tmp_path / "nothing", trials=2)
    assert nothing.exit_code == ExitCode.NOTHING_DONE
    assert nothing.best is None and not (tmp_path / "nothing" / "best.json").exists()


def test_the_commands_can_be_pasted_into_a_shell(
    training: ToyTraining, bundle: Path, manifest: Path, tmp_path: Path
) -> None:
    out = tmp_path / "my search"
    result = search(bundle, manifest, SPACE, out, trials=2, set={"max_epochs": 2})
    assert result.best is not None
    words = shlex.split(result.train_command)
    assert words[:4] == ["medresnet3d", "train", str(bundle), "--data"]
    given = dict(pair.split("=", 1) for pair in words[words.index("--set") + 1 :: 2])
    assert {name: json.loads(value) for name, value in given.items()} == result.values
    run = out / "trials" / f"{result.best.slot:04d}"
    assert shlex.split(result.evaluate_command)[:3] == ["medresnet3d", "evaluate", str(run)]
    assert "TEST_MANIFEST" in result.evaluate_command  # the toy data have no test cases
    command = json.loads((out / "search.json").read_text())["command"]
    assert shlex.split(command)[:3] == ["medresnet3d", "search", str(bundle)]
    assert shlex.split(command)[6:8] == [str(out / "space.json"), "-o"]


def test_the_direction_is_the_metrics(training: ToyTraining, bundle: Path, manifest: Path, tmp_path: Path) -> None:
    config = json.loads((bundle / "configs" / "train.json").read_text())
    config["validate"]["evaluator"]["smaller_is_better"] = True
    changed = write_toy_bundle(tmp_path / "error_toy")
    (changed / "configs" / "train.json").write_text(json.dumps(config))
    result = search(changed, manifest, SPACE, tmp_path / "out", trials=4)
    assert result.best is not None
    assert result.best.value == min(one.value for one in result.trials if one.value is not None)
    config["validate"]["key_metric"] = {}
    (changed / "configs" / "train.json").write_text(json.dumps(config))
    with pytest.raises(BundleError, match="names no validate::key_metric"):
        search(changed, manifest, SPACE, tmp_path / "none", trials=4)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"space": {"learningrate": SPACE["learning_rate"]}}, "no id 'learningrate'; did you mean 'learning_rate'?"),
        ({"set": {"features": 3}}, "'features' is searched and also set by --set"),
        ({"method": "annealing"}, "--method is 'annealing'; use one of optuna, pso"),
        ({"objective": "mean"}, "--objective is 'mean'; use one of last, best"),
        ({"trials": 0}, "--trials is 0"),
        ({"workers": 0}, "--workers is 0"),
        ({"budget": "soon"}, "The budget 'soon'"),
        ({"method": "pso", "prune": True}, "a swarm needs the value of every trial"),
        ({"set": ["widht=3"]}, "--set widht"),
    ],
)
def test_wrong_usage_is_one_sentence_and_leaves_nothing(
    options: dict[str, Any], sentence: str, bundle: Path, manifest: Path, tmp_path: Path
) -> None:
    space = options.pop("space", SPACE)
    with pytest.raises(ConfigError) as error:
        search(bundle, manifest, space, tmp_path / "out", **options)
    assert sentence in str(error.value)
    assert not (tmp_path / "out").exists()


def test_another_task_and_torchrun_are_refused(
    bundle: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.loads(manifest.read_text()) | {"task": "regression"}
    for entry in content["training"] + content["validation"]:
        entry["label"] = 1.5
    content.pop("labels")
    other = manifest.with_name("regression.json")
    other.write_text(json.dumps(content))
    with pytest.raises(DataError, match="is for regression"):
        search(bundle, other, SPACE, tmp_path / "out")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="run it without torchrun"):
        search(bundle, manifest, SPACE, tmp_path / "out")


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced(bundle: Path, manifest: Path, tmp_path: Path) -> None:
    """Two real worker processes; one dies by SIGKILL in the middle of a training."""
    space = {"learning_rate": {"type": "float", "low": 1e-4, "high": 0.1, "log": True}}
    options: dict[str, Any] = {"set": {"max_epochs": 12, "checkpoint_seconds": 0}, "trials": 3, "workers": 2}
    child = run_in_child(lambda: search(bundle, manifest, space, tmp_path / "out", method="random", **options))
    victim = _worker_in_training(tmp_path / "out", child.pid)
    os.kill(victim, signal.SIGKILL)
    child.join()
    assert child.exitcode == 0
    rows = list(csv.DictReader((tmp_path / "out" / "trials.csv").open()))
    assert {row["state"] for row in rows} <= {"complete", "pruned"}
    assert len(rows) == 3
    assert sum(int(row["attempts"]) for row in rows) == 4


def _worker_in_training(out: Path, parent: int) -> int:
    """Wait until a worker has saved an epoch, and give its process id."""
    deadline = time.monotonic() + 240
    while not list(out.glob("trials/*/checkpoints/last.pt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    (saved, *_) = out.glob("trials/*/checkpoints/last.pt")
    import optuna

    storage = optuna.storages.RDBStorage(f"sqlite:///{out / 'study.db'}")
    (summary,) = optuna.get_all_study_summaries(storage)
    trials = optuna.load_study(study_name=summary.study_name, storage=storage).trials
    slot = int(saved.parents[1].name)
    own = [one.user_attrs for one in trials if one.user_attrs["slot"] == slot and one.params]
    (holder,) = [one["holder"] for one in own if not one.get("surplus")]  # both may have offered the first slot
    assert holder["pid"] not in (os.getpid(), parent)
    return int(holder["pid"])
