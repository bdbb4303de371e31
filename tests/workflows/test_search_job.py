from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from medresnet3d.errors import ConfigError
from medresnet3d.workflows.search_job import RECORD, SearchJob, choose_population, enter_folder
from tests.workflows.searching import make_job


def test_a_job_goes_through_json(tmp_path: Path) -> None:
    job = make_job(tmp_path, overrides={"loss": {"name": "cosface"}})
    again = SearchJob.from_json(job.to_json())
    assert again == job
    assert again.study == job.study
    assert again.parameters == job.parameters


def test_what_is_computed_names_the_study_and_where_it_is_computed_does_not(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    for change in ({"output": "/elsewhere"}, {"device": "cuda"}, {"data": "/moved/manifest.json"}, {"trials": 99}):
        assert replace(job, **change).study == job.study
    for change in (
        {"seed": 1},
        {"metric": "val_dice"},
        {"overrides": {"width": 4}},
        {"hashes": {"bundle": "x", "data": "d"}},
    ):
        assert replace(job, **change).study != job.study
    pso = replace(job, method="pso", population=2)
    assert replace(pso, trials=99).study != pso.study  # the inertia falls over the generations


def test_a_folder_keeps_its_search(tmp_path: Path) -> None:
    job = make_job(tmp_path / "out")
    enter_folder(job, "medresnet3d search toy")
    enter_folder(replace(job, trials=12), "medresnet3d search toy --trials 12")
    record = json.loads((tmp_path / "out" / RECORD).read_text())
    assert record["trials"] == 12 and record["command"].endswith("--trials 12")
    with pytest.raises(
        ConfigError, match=r"another search: method was \"optuna\" and is \"random\"; seed was 0 and is 3"
    ):
        enter_folder(replace(job, method="random", seed=3), "")
    (tmp_path / "out" / RECORD).write_text("{")
    with pytest.raises(ConfigError, match="is damaged"):
        enter_folder(job, "")


def test_a_taken_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds no search; choose another folder"):
        enter_folder(make_job(tmp_path), "")
    with pytest.raises(ConfigError, match="is a file"):
        enter_folder(replace(make_job(tmp_path), output=str(tmp_path / "notes.txt")), "")


def test_generations(tmp_path: Path) -> None:
    assert choose_population("pso", 30, None) == 5
    assert choose_population("whale", 3, None) == 3
    assert choose_population("improved_whale", 30, 10) == 10
    assert choose_population("optuna", 30, None) == 1
    assert make_job(tmp_path, method="pso", trials=11, population=4).generations == 3
    with pytest.raises(ConfigError, match="random has no generations"):
        choose_population("random", 30, 5)
    with pytest.raises(ConfigError, match="give 2 to 10, the number of trials"):
        choose_population("pso", 10, 11)
