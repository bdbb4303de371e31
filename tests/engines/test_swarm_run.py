from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from medresnet3d.engines.swarm_run import run_swarm
from medresnet3d.errors import DataError
from medresnet3d.optimizers.swarm import METHODS, Swarm


def sphere(position: NDArray[np.float64]) -> float:
    return float((position**2).sum())


def swarm(method: str) -> Swarm:
    return METHODS[method]([(-1, 2)] * 3, 5, 6, seed=1)


@pytest.mark.parametrize("method", METHODS)
def test_a_broken_run_goes_on_to_the_same_best_and_the_same_course(method: str, tmp_path: Path) -> None:
    measured = 0

    def interrupted(position: NDArray[np.float64]) -> float:
        nonlocal measured
        measured += 1
        if measured == 18:  # in the fourth iteration
            raise KeyboardInterrupt
        return sphere(position)

    whole = run_swarm(swarm(method), sphere, tmp_path / "whole", "weights", "loss")
    with pytest.raises(KeyboardInterrupt):
        run_swarm(swarm(method), interrupted, tmp_path / "broken", "weights", "loss")
    again = run_swarm(swarm(method), interrupted, tmp_path / "broken", "weights", "loss")
    assert measured == 18 + 15, "three iterations were left"
    assert np.array_equal(again.position, whole.position) and again.fitness == whole.fitness == sphere(whole.position)
    courses = [(tmp_path / name / "search.csv").read_text() for name in ("whole", "broken")]
    assert courses[0] == courses[1]
    best = [float(row["best"]) for row in csv.DictReader(courses[0].splitlines())]
    assert len(best) == 6 and best == sorted(best, reverse=True)


def test_a_search_that_could_measure_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No position of the swarm has a finite loss"):
        run_swarm(swarm("whale"), lambda position: float("nan"), tmp_path, "weights", "loss")
