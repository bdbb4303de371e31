"""A swarm that measures, moves and is kept after each iteration: what every search inside a training shares."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medresnet3d.engines.checkpoint import load_checkpoint, save_checkpoint
from medresnet3d.engines.device import rank
from medresnet3d.engines.logs import write_metrics
from medresnet3d.errors import DataError
from medresnet3d.optimizers.swarm import Best, Swarm
from medresnet3d.progress import Progress


def run_swarm(
    swarm: Swarm, measure: Callable[[NDArray[np.float64]], float], folder: Path, name: str, what: str
) -> Best:
    """Run all iterations of a swarm, or those that an earlier call in the same folder has left.

    The swarm is kept in ``swarm.pt`` after each iteration, so that a search that was broken off goes on as if it had
    not been. The course is in ``search.csv``: best and mean of each iteration.

    Args:
        swarm: new; it is changed.
        measure: the value of one position (dims,), lower is better.
        folder: where it is kept.
        name: of what is searched, for the progress.
        what: is measured, for the progress.

    Returns:
        the best position of all.

    Raises:
        DataError: if no position has a finite value.
    """
    history: list[dict[str, float]] = []
    state = folder / "swarm.pt"
    if state.is_file():
        kept = load_checkpoint(state)
        swarm.load_state_dict(kept["swarm"])
        history = list(kept["history"])
    with Progress(name, swarm.iterations - swarm.iteration) as progress:
        while swarm.iteration < swarm.iterations:
            values = [measure(position) for position in swarm.ask()]
            swarm.tell(values)
            best = swarm.best.fitness
            history.append({"iteration": swarm.iteration, "best": best, "mean": float(np.mean(values))})
            if rank() == 0:
                save_checkpoint({"swarm": _as_arrays(swarm.state_dict()), "history": history}, state)
            progress.advance(status=f"{what} {best:.4g}")
    if not math.isfinite(swarm.best.fitness):
        raise DataError("No position of the swarm has a finite loss; look at the images' values.")
    if rank() == 0:
        write_metrics(history, folder / "search.csv")
    return swarm.best


def _as_arrays(state: dict[str, Any]) -> dict[str, Any]:
    """The state of a swarm with its long lists as arrays, which are kept in a tenth of the time."""
    return {name: np.asarray(value) if isinstance(value, list) else value for name, value in state.items()}
