"""What a benchmark has measured so far, in files, so that it can be interrupted and go on where it was."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medresnet3d.io.atomic import atomic_path, atomic_write_text


class Journal:
    """A folder with one file for each measurement; without a folder, everything is measured and nothing kept.

    Args:
        folder: of this benchmark with these options; ``None``: nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def once(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what was measured under that name; measure it if nothing was."""
        path = None if self.folder is None else self.folder / f"{name.replace(' ', '-')}.json"
        if path is not None and path.exists():
            return dict(json.loads(path.read_text(encoding="utf-8")))
        found = measure()
        if path is not None:
            atomic_write_text(path, json.dumps(found))
        return found

    def keep(self, name: str, array: NDArray[Any]) -> None:
        """Keep an answer."""
        if self.folder is not None:
            with atomic_path(self.folder / f"{name.replace(' ', '-')}.npy") as path, path.open("wb") as file:
                np.save(file, array)

    def kept(self, name: str) -> NDArray[Any] | None:
        """Return an answer of this or an earlier run."""
        path = None if self.folder is None else self.folder / f"{name.replace(' ', '-')}.npy"
        return np.load(path) if path is not None and path.exists() else None


def timed(work: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Return the wall and the CPU time (all threads) of one call, in seconds, and its result."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}, result


def in_turn(names: list[str], repeats: int) -> Iterator[tuple[str, int]]:
    """Yield every arm and repeat, the arms in turn, so that a busy moment meets all alike."""
    yield from ((name, number) for number in range(repeats) for name in names)


def medians(times: dict[str, list[dict[str, float]]], clock: str) -> dict[str, float]:
    """Return the median of each arm by that clock, ``wall`` or ``cpu``."""
    return {name: statistics.median(one[clock] for one in some) for name, some in times.items()}
