"""One cell of a comparison as plain data: what a worker process is given, and the files that it leaves."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RESULT, STEPS, TUNING, COURSE = "result.json", "steps.json", "tuning.json", "course.csv"


@dataclass(frozen=True)
class Job:
    """Everything that the result of one cell depends on, and where it goes.

    Attributes:
        bundle: folder of the bundle.
        outer: manifest of training part and held-out part.
        inner: manifest with the training part divided once more.
        overrides: configuration ids of the arm and of the whole comparison.
        seed: seed of initialisation, order and augmentation.
        budget: amount and unit ("seconds" or "steps").
        learning_rates: rates to choose from on the inner split; empty: the configuration's own.
        points: how often to measure over the training, the end included.
        device: where to compute.
        folder: gets the cell's files.
    """

    bundle: str
    outer: str
    inner: str
    overrides: Mapping[str, Any]
    seed: int
    budget: tuple[float, str]
    learning_rates: tuple[float, ...] = ()
    points: int = 5
    device: str = "cpu"
    folder: str = field(default="", compare=False)

    @property
    def result(self) -> Path:
        """The file whose existence says that the cell is finished."""
        return Path(self.folder) / RESULT

    def as_json(self) -> str:
        """Give the job as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Read what :meth:`as_json` gave."""
        content = json.loads(text)
        content["budget"] = tuple(content["budget"])
        content["learning_rates"] = tuple(content["learning_rates"])
        return cls(**content)


def cell_name(job: Job, arm: str, hashes: Mapping[str, str]) -> str:
    """Name a cell's folder after its arm, its seed and a hash of all that its result depends on.

    So a comparison that is started again with more arms or seeds uses what is there, and never what was computed from
    another bundle, other data or other settings.

    Args:
        job: the cell.
        arm: the name of its arm.
        hashes: content hashes of bundle and data, and the type of the device.
    """
    content = asdict(job)
    for place in ("folder", "bundle", "outer", "inner", "device"):
        content.pop(place)
    content |= {"split": Path(job.outer).name, **hashes}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]
    slug = re.sub(r"[^A-Za-z0-9]+", "-", arm).strip("-").lower()[:48]
    return f"{slug}_seed{job.seed}_{digest}"
