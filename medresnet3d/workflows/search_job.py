"""What a search is: everything that its processes, here and on other machines, must agree on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from medresnet3d.errors import ConfigError
from medresnet3d.io.atomic import atomic_write_text
from medresnet3d.workflows.search_space import Parameter, read_space

RECORD = "search.json"
#: Methods whose next proposals need all values of the generation before; their schedules depend on its number.
SWARMS = ("pso", "whale", "improved_whale")
SEARCH_METHODS = ("optuna", *SWARMS, "random")
OBJECTIVES = ("last", "best")


@dataclass(frozen=True)
class SearchJob:
    """One search, as plain values that JSON keeps.

    Attributes:
        bundle: folder of the bundle.
        data: the manifest file.
        output: folder of this machine's part of the search.
        space: what :func:`medresnet3d.workflows.search_space.read_space` reads.
        method: one of :data:`SEARCH_METHODS`.
        trials: number of trials.
        population: trials of one generation of a swarm.
        seed: seed of the proposals; each training has the bundle's own ``seed``.
        metric: column of ``metrics.csv``, for example ``val_auc``.
        maximise: whether a larger metric is the better one.
        objective: ``last``: the metric after the last epoch; ``best``: that of the best epoch.
        budget: for example ``200steps`` or ``60s`` a trial; empty: the bundle's own length.
        prune: whether trials that do worse than the median of the others are ended early.
        epochs: the bundle's ``max_epochs``; 0 where it is no plain number.
        overrides: ids that are set in every trial.
        hashes: of the bundle's content and of the data.
        storage: address of Optuna's storage.
        device: where to compute.
        trust: accept a bundle from elsewhere.
    """

    bundle: str
    data: str
    output: str
    space: dict[str, Any]
    method: str
    trials: int
    population: int
    seed: int
    metric: str
    maximise: bool
    objective: str
    budget: str
    prune: bool
    epochs: int
    overrides: dict[str, Any]
    hashes: dict[str, str]
    storage: str
    device: str = "auto"
    trust: bool = False

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The space."""
        return read_space(self.space)

    @property
    def folder(self) -> Path:
        """The output folder."""
        return Path(self.output)

    @property
    def generations(self) -> int:
        """Number of generations; the last one may be a part of one."""
        return -(-self.trials // self.population)

    def identity(self) -> dict[str, Any]:
        """What must be the same for processes to share a study and for a search to go on."""
        names = ("space", "method", "population", "seed", "metric", "objective", "budget", "prune", "overrides")
        own = {name: getattr(self, name) for name in names}
        if self.method in SWARMS:
            own["trials"] = self.trials
        return {**own, "bundle": self.hashes["bundle"], "data": self.hashes["data"]}

    @property
    def study(self) -> str:
        """Name of the study in the storage: that of the bundle and a hash of :meth:`identity`."""
        text = json.dumps(self.identity(), sort_keys=True, default=str)
        return f"{Path(self.bundle).name}-{self.method}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def to_json(self) -> str:
        """Give everything as JSON, for a worker."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> SearchJob:
        """Read what :meth:`to_json` wrote."""
        return cls(**json.loads(text))


def choose_population(method: str, trials: int, population: int | None) -> int:
    """Give the trials of one generation: the user's number, or about the square root of all; 1 without generations.

    Raises:
        ConfigError: if the number makes no sense.
    """
    if method not in SWARMS:
        if population is not None:
            raise ConfigError(f"--population is for {', '.join(SWARMS)}; {method} has no generations.")
        return 1
    if population is None:
        return min(trials, max(4, round(trials**0.5)))
    if not 2 <= population <= trials:
        raise ConfigError(f"--population is {population}; give 2 to {trials}, the number of trials.")
    return population


def enter_folder(job: SearchJob, command: str) -> None:
    """Record a new search in its folder, or see that the folder's search is this one.

    Args:
        job: the search.
        command: how it is started.

    Raises:
        ConfigError: if the folder holds something else, or another search; what differs is listed.
    """
    folder, record = job.folder, job.folder / RECORD
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; give a folder for the search with -o.")
    if record.is_file():
        _check_same(job, read_record(folder))
    elif folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise ConfigError(f"{folder} exists already, is not empty and holds no search; choose another folder with -o.")
    content = {"study": job.study, "command": command, "trials": job.trials, "identity": job.identity()}
    atomic_write_text(record, json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n")


def read_record(folder: Path) -> dict[str, Any]:
    """Read the record of a folder's search.

    Raises:
        ConfigError: if it is damaged.
    """
    try:
        return dict(json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except ValueError as error:
        raise ConfigError(f"{folder / RECORD} is damaged ({error}); start a new search in another folder.") from error


def _check_same(job: SearchJob, record: Mapping[str, Any]) -> None:
    before = record.get("identity", {})
    now = json.loads(json.dumps(job.identity(), default=str))
    different = [
        f"{name} was {_short(before.get(name))} and is {_short(now.get(name))}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if different:
        raise ConfigError(
            f"{job.output} holds another search: {'; '.join(different)}. Give the same values to go on with it (it was "
            f"started with `{record.get('command', '')}`), or choose another folder with -o."
        )


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
