from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medresnet3d.optimizers.swarm import PSO
from medresnet3d.workflows.search_job import SWARMS
from medresnet3d.workflows.search_plan import proposals
from tests.workflows.searching import make_job, quality


def fitness_of(plan: list[dict[str, Any]]) -> dict[int, float]:
    return {number: -quality(values) for number, values in enumerate(plan)}


def swarm_job(folder: Path, method: str, trials: int = 11, population: int = 4) -> Any:
    choices = {"batch_size": {"type": "categorical", "choices": [2, 4, 8]}}
    space = {"learning_rate": {"type": "float", "low": 1e-4, "high": 1.0, "log": True}}
    space |= {"features": {"type": "int", "low": 2, "high": 8, "step": 2}}
    return make_job(folder, method=method, trials=trials, population=population, space=space | choices)


def quality_of(stored: dict[str, Any]) -> float:
    return quality({**stored, "batch_size": int(stored["batch_size"])})


@pytest.mark.parametrize("method", SWARMS)
def test_a_generation_is_known_when_the_one_before_is_finished(method: str, tmp_path: Path) -> None:
    job = swarm_job(tmp_path, method)
    values: dict[int, float] = {}
    first = list(proposals(job, values))
    assert len(first) == 4
    for number in (0, 1, 3):
        values[number] = -quality_of(first[number])
    assert list(proposals(job, values)) == first
    values[2] = math.nan  # it failed
    second = list(proposals(job, values))
    assert second[:4] == first and len(second) == 8
    values |= {number: -quality_of(second[number]) for number in range(4, 8)}
    assert len(list(proposals(job, values))) == 11  # the last generation is a part of one


def test_positions_are_those_of_the_swarm(tmp_path: Path) -> None:
    job = swarm_job(tmp_path, "pso", trials=8)
    swarm = PSO([(-1, 1)] * 3, 4, 2, seed=0)
    first = list(proposals(job, {}))
    unit = (swarm.ask() + 1) / 2
    assert [one["learning_rate"] for one in first] == pytest.approx(list(10 ** (-4 + 4 * unit[:, 0])))
    values = fitness_of([{**one, "batch_size": int(one["batch_size"])} for one in first])
    swarm.tell([values[number] for number in range(4)])
    second = list(proposals(job, values))[4:]
    unit = (swarm.ask() + 1) / 2
    assert [one["learning_rate"] for one in second] == pytest.approx(list(10 ** (-4 + 4 * unit[:, 0])))


def test_random_needs_no_values_and_more_trials_keep_the_first(tmp_path: Path) -> None:
    job = make_job(tmp_path, method="random", trials=5)
    plan = list(proposals(job, {}))
    assert len(plan) == 5
    assert list(proposals(job, {0: 1.0, 3: math.nan})) == plan
    assert list(proposals(make_job(tmp_path, method="random", trials=9), {}))[:5] == plan
    assert len(np.unique([one["learning_rate"] for one in plan])) == 5


def test_optuna_chooses_itself(tmp_path: Path) -> None:
    assert list(proposals(make_job(tmp_path, trials=3), {})) == [{}, {}, {}]
