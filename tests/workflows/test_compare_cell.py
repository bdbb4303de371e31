from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medresnet3d.data import items, load_manifest
from medresnet3d.engines import TrainingInterrupted
from medresnet3d.workflows.compare_cell import forget_failure, read_result, run_cell
from medresnet3d.workflows.compare_course import read_course
from medresnet3d.workflows.compare_datasets import DatasetShelf
from medresnet3d.workflows.compare_job import Job, cell_name
from medresnet3d.workflows.compare_splits import write_split
from tests.engines.toy import run_in_child
from tests.workflows.toy_bundle import write_cubes, write_toy_bundle


def ignore(done: int, steps: int) -> None:
    """Take no notice of progress."""


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("cells")
    bundle = write_toy_bundle(folder / "toy_cubes")
    split = write_split(load_manifest(write_cubes(folder / "data", cases=32)), folder / "splits")
    return Job(str(bundle), str(split.outer), str(split.inner), {}, 0, (10, "steps"), points=3)


def run(job: Job, folder: Path, shelf: DatasetShelf | None = None, **changes: Any) -> dict[str, Any]:
    own = replace(job, folder=str(folder), **changes)
    run_cell(own, ignore, shelf)
    result = read_result(own)
    assert result is not None
    return result


def figures(result: dict[str, Any]) -> dict[str, Any]:
    """What does not depend on the clock."""
    return {name: value for name, value in result.items() if "seconds" not in name}


@pytest.fixture(scope="module")
def unbroken(job: Job, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("unbroken") / "cell"
    return folder, run(job, folder)


def test_a_cell_trains_exactly_its_steps_and_measures_at_the_end(unbroken: tuple[Path, dict[str, Any]]) -> None:
    folder, result = unbroken
    assert result["steps"] == 10  # in the middle of the second epoch of six
    assert result["metric_name"] == "auc" and 0 <= result["metric"] <= 1
    assert (result["training_cases"], result["training_patients"]) == (24, 24)
    assert result["step_memory_mb"] > 0 and result["training_seconds"] > 0
    course = read_course(folder / "course.csv")
    assert [row["step"] for row in course] == list(range(1, 11))
    assert [row["step"] for row in course if row["metric"] == row["metric"]] == [3, 7, 10]
    assert course[-1]["metric"] == pytest.approx(result["metric"], abs=1e-5)
    assert sorted(path.name for path in folder.iterdir()) == ["course.csv", "metrics.csv", "result.json"]


def test_the_same_cell_gives_the_same_result_with_shared_data(job: Job, unbroken: Any, tmp_path: Path) -> None:
    shelf = DatasetShelf()
    first, again = (run(job, tmp_path / name, shelf) for name in ("one", "two"))
    assert figures(first) == figures(again) == figures(unbroken[1])


def test_data_sets_are_shared_only_where_all_settings_agree(job: Job, tmp_path: Path) -> None:
    shelf = DatasetShelf()
    run(job, tmp_path / "one", shelf)
    kept = len(shelf._kept)
    run(job, tmp_path / "rate", shelf, overrides={"learning_rate": 0.5})
    assert len(shelf._kept) == kept
    run(job, tmp_path / "seed", shelf, seed=1)
    assert len(shelf._kept) == 2 * kept


def test_a_finished_cell_is_left_alone(job: Job, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"metric": 42}')
    assert run(job, tmp_path) == {"metric": 42}


def test_a_diverged_cell_is_a_result_with_an_error(job: Job, tmp_path: Path) -> None:
    result = run(job, tmp_path, overrides={"learning_rate": 1e30})
    assert set(result) == {"error"} and "training loss became" in result["error"]
    failed = replace(job, folder=str(tmp_path))
    forget_failure(failed)
    assert read_result(failed) is None


def test_an_impossible_setting_is_a_result_with_an_error(job: Job, tmp_path: Path) -> None:
    assert "batch_size is -3" in run(job, tmp_path, overrides={"batch_size": -3})["error"]


def test_seconds_become_steps_and_the_schedule_is_made_for_them(job: Job, tmp_path: Path) -> None:
    started = time.monotonic()
    result = run(job, tmp_path, budget=(1.0, "seconds"), points=1)
    recorded = json.loads((tmp_path / "steps.json").read_text())
    assert result["steps"] == recorded["steps"] == max(1, int(1.0 / recorded["calibrated_step_seconds"]))
    assert 0.2 < result["training_seconds"] < 5
    assert time.monotonic() - started < 30


def test_a_cell_killed_at_any_time_goes_on_to_the_same_result(job: Job, unbroken: Any, tmp_path: Path) -> None:
    own = replace(job, folder=str(tmp_path), overrides={"checkpoint_seconds": 0})
    stops, kills = [2, 7, 9], 0

    def killed_at(step: int) -> None:
        def report(done: int, steps: int) -> None:
            if done == step:
                os.kill(os.getpid(), signal.SIGKILL)

        run_cell(own, report)

    for step in stops:
        child = run_in_child(lambda: killed_at(step))  # noqa: B023
        child.join()
        kills += child.exitcode == -signal.SIGKILL
        assert read_result(own) is None
    run_cell(own, ignore)
    assert kills == len(stops)
    assert figures(read_result(own) or {}) == figures(unbroken[1])
    assert [row["step"] for row in read_course(tmp_path / "course.csv")] == list(range(1, 11))


def test_a_cell_told_to_stop_saves_and_goes_on(job: Job, unbroken: Any, tmp_path: Path) -> None:
    own = replace(job, folder=str(tmp_path))

    def stop(done: int, steps: int) -> None:
        if done == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TrainingInterrupted):
        run_cell(own, stop)
    assert read_result(own) is None
    seen: list[int] = []
    run_cell(own, lambda done, steps: seen.append(done))
    assert seen[0] > 4
    assert figures(read_result(own) or {}) == figures(unbroken[1])


def test_a_cell_chooses_its_learning_rate_on_the_inner_split(job: Job, tmp_path: Path) -> None:
    result = run(job, tmp_path, budget=(20, "steps"), learning_rates=(1e30, 0.01, 1e-9))
    assert result["learning_rate"] == 0.01
    assert result["tuning"]["1e+30"] is None and result["tuning"]["0.01"] >= result["tuning"]["1e-09"]
    plain = run(job, tmp_path / "plain", budget=(20, "steps"), overrides={"learning_rate": 0.01})
    assert plain["metric"] == result["metric"]


def test_no_learning_rate_leads_to_anything(job: Job, tmp_path: Path) -> None:
    assert "No learning rate of 1e+30, 1e+29" in run(job, tmp_path, learning_rates=(1e30, 1e29))["error"]


def test_early_stopping_chooses_on_the_inner_split_and_is_measured_on_the_outer(job: Job, tmp_path: Path) -> None:
    config = json.loads((Path(job.bundle) / "configs" / "train.json").read_text())
    config["early_stopping"] = None
    config["train"]["handlers"][0]["early_stopping"] = "@early_stopping"
    bundle = write_toy_bundle(tmp_path / "toy_cubes")
    (bundle / "configs" / "train.json").write_text(json.dumps(config))
    changes: dict[str, Any] = {"bundle": str(bundle), "budget": (400, "steps")}
    result = run(job, tmp_path / "early", overrides={"early_stopping": 2}, **changes)
    assert result["training_cases"] == len(items(job.inner, "training")) < len(items(job.outer, "training"))
    assert result["steps"] < 400  # the toy is learnt soon, and two more validations end the training
    chosen = [row for row in read_course(tmp_path / "early" / "course.csv") if row["metric"] == row["metric"]]
    assert [row["step"] for row in chosen] == [result["steps"]]
    later = run(job, tmp_path / "late", overrides={"early_stopping": 1000}, **{**changes, "budget": (20, "steps")})
    assert later["steps"] == 20


def test_names_of_cells_depend_on_all_that_decides(job: Job) -> None:
    hashes = {"bundle": "b", "data": "d", "device": "cpu"}
    name = cell_name(job, "relu, cosine", hashes)
    assert name.startswith("relu-cosine_seed0_")
    assert cell_name(replace(job, folder="elsewhere", bundle="moved", device="cuda:1"), "relu, cosine", hashes) == name
    changes: list[dict[str, Any]] = [
        {"overrides": {"x": 1}},
        {"seed": 1},
        {"budget": (20, "steps")},
        {"learning_rates": (0.1, 0.2)},
        {"outer": "splits/fold_0_of_5.json"},
    ]
    others = {cell_name(replace(job, **change), "relu, cosine", hashes) for change in changes}
    others |= {cell_name(job, "relu, cosine", {**hashes, key: "other"}) for key in hashes}
    assert len(others) == len(changes) + len(hashes) and name not in others
    assert Job.from_json(job.as_json()) == job
