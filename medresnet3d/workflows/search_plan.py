"""What each trial of a search tries.

A swarm's positions follow from its seed and from the values of the generations before. So nothing of it is stored:
every process, on every machine and after every interruption, works out the same proposals from the finished trials.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from medresnet3d.optimizers.swarm import METHODS
from medresnet3d.workflows.search_job import SWARMS, SearchJob

#: Symmetric, since whales favour the origin: so they favour the middle of each range and not its lower end.
CUBE = (-1.0, 1.0)


def proposals(job: SearchJob, fitness: Mapping[int, float]) -> Iterator[dict[str, Any]]:
    """Yield what is known of the trials 0, 1, 2, ... of a search: stored values by id, empty where Optuna chooses.

    Args:
        job: the search.
        fitness: value of each finished trial by its number, lower is better; NaN for one that failed.
    """
    if job.method == "optuna":
        yield from ({} for _ in range(job.trials))
        return
    swarm = METHODS[job.method]([CUBE] * len(job.parameters), job.population, job.generations, job.seed)
    for generation in range(job.generations):
        first = generation * job.population
        numbers = range(first, min(first + job.population, job.trials))
        for position in swarm.ask()[: len(numbers)]:
            yield _stored(job, position)
        if job.method in SWARMS and any(number not in fitness for number in numbers):
            return
        values = np.full(job.population, np.nan)
        values[: len(numbers)] = [fitness.get(number, np.nan) for number in numbers]
        swarm.tell(values)


def _stored(job: SearchJob, position: np.ndarray[Any, Any]) -> dict[str, Any]:
    unit = (position - CUBE[0]) / (CUBE[1] - CUBE[0])
    return {one.name: one.at(float(place)) for one, place in zip(job.parameters, unit, strict=True)}
