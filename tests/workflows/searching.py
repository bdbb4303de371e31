"""A training that takes milliseconds, for tests of what a search does around it."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medresnet3d.engines.epochs import tell_epoch
from medresnet3d.errors import DataError
from medresnet3d.workflows.search_job import SearchJob
from medresnet3d.workflows.search_space import describe, read_space

SPACE: dict[str, Any] = {
    "learning_rate": {"type": "float", "low": 1e-4, "high": 1.0, "log": True},
    "features": {"type": "int", "low": 2, "high": 8, "step": 2},
    "batch_size": {"type": "categorical", "choices": [2, 4, 8]},
}
EPOCHS = 4


def quality(settings: Mapping[str, Any]) -> float:
    """What the toy training comes to: best at a learning rate of 0.01 with 6 features."""
    distance = (math.log10(settings["learning_rate"]) + 2) ** 2 + (settings["features"] - 6) ** 2 / 8
    return 1 / (1 + distance + 0.1 * (settings["batch_size"] != 4))


class ToyTraining:
    """Stands in for ``train``: epoch after epoch comes nearer to :func:`quality`, and ``log`` keeps what was done.

    Args:
        log: file that gets a line for each epoch and for each end, from all processes.
        pause: seconds of an epoch.
        company: folders of searches; no epoch is done before each of them has begun a trial.
        worth: what a training with some settings comes to.
        metric: what that is called.
    """

    def __init__(
        self,
        log: Path,
        pause: float = 0.0,
        company: Sequence[Path] = (),
        worth: Callable[[Mapping[str, Any]], float] = quality,
        metric: str = "val_auc",
    ) -> None:
        self.log = log
        self.pause = pause
        self.company = company
        self.worth = worth
        self.metric = metric

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def _note(self, text: str) -> None:
        with self.log.open("a") as handle:
            handle.write(f"{text}\n")

    def __call__(
        self,
        bundle: str,
        data: str,
        output: Path,
        *,
        resume: bool = False,
        device: str = "auto",
        set: Mapping[str, Any] | None = None,
        trust: bool = False,
        rivals: bool = True,
    ) -> Path:
        assert not rivals, "a search compares its own trials"
        environment = output / "environment.json"
        if not resume:
            assert set is not None
            output.mkdir(parents=True)
            (output / "config.json").write_text("{}")
            environment.write_text(json.dumps({"overrides": dict(set)}))
        settings = json.loads(environment.read_text())["overrides"]
        table = output / "metrics.csv"
        rows = list(csv.DictReader(table.open())) if table.exists() else []
        while not all(any(folder.glob("trials/*")) for folder in self.company):
            time.sleep(0.01)
        for epoch in range(len(rows) + 1, EPOCHS + 1):
            time.sleep(self.pause)
            if settings["batch_size"] == 8 and settings["learning_rate"] > 0.5:
                raise DataError("The training loss became nan.")
            row = {"epoch": epoch, self.metric: self.worth(settings) * epoch / EPOCHS}
            rows.append({name: str(value) for name, value in row.items()})
            with table.open("w") as handle:
                writer = csv.DictWriter(handle, ["epoch", self.metric])
                writer.writeheader()
                writer.writerows(rows)
            self._note(f"{output.name} epoch {epoch}")
            tell_epoch(row)
        (output / "bundle").mkdir(exist_ok=True)
        self._note(f"{output.name} end")
        return output


def make_job(folder: Path, **options: Any) -> SearchJob:
    """A search over :data:`SPACE`, as ``search`` makes it."""
    folder.mkdir(parents=True, exist_ok=True)
    values: dict[str, Any] = {
        "bundle": "/bundles/toy",
        "data": "/data/manifest.json",
        "output": str(folder),
        "space": describe(read_space(SPACE)),
        "method": "optuna",
        "trials": 6,
        "population": 1,
        "seed": 0,
        "metric": "val_auc",
        "maximise": True,
        "objective": "last",
        "budget": "",
        "prune": False,
        "epochs": EPOCHS,
        "overrides": {},
        "hashes": {"bundle": "b", "data": "d"},
        "storage": f"sqlite:///{folder / 'study.db'}",
    }
    return SearchJob(**values | options)
