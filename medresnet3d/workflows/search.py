"""``search``: find values of a bundle's configuration with which it does best on the validation cases."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medresnet3d.bundle.inspect import inspect_bundle
from medresnet3d.bundle.load import load_config, parse_overrides, unknown_id_hint
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.bundle.trust import require_trust
from medresnet3d.data.manifest import Manifest, load_manifest
from medresnet3d.errors import BundleError, ConfigError
from medresnet3d.io.atomic import atomic_write_text
from medresnet3d.progress import Progress
from medresnet3d.workflows.budget import parse_budget
from medresnet3d.workflows.search_job import (
    OBJECTIVES,
    SEARCH_METHODS,
    SWARMS,
    SearchJob,
    choose_population,
    enter_folder,
)
from medresnet3d.workflows.search_ledger import Ledger, TrialRecord, hide_password, load_optuna
from medresnet3d.workflows.search_outcome import Call, SearchResult, best_of, write_outcome, write_table
from medresnet3d.workflows.search_space import Parameter, describe, read_space
from medresnet3d.workflows.search_worker import POLL_S, Workers, work
from medresnet3d.workflows.train import check_task
from medresnet3d.workflows.trial_budget import UNITS

if TYPE_CHECKING:
    from monai.bundle import ConfigParser


class SearchInterrupted(KeyboardInterrupt):
    """A search was stopped by Ctrl-C after its state was saved; the message says how to go on."""


def search(
    bundle: str | os.PathLike[str],
    data: str | os.PathLike[str] | Manifest,
    space: str | os.PathLike[str] | Mapping[str, Any],
    output: str | os.PathLike[str],
    *,
    method: str = "optuna",
    trials: int = 30,
    workers: int = 1,
    population: int | None = None,
    objective: str = "last",
    budget: str = "",
    prune: bool | None = None,
    storage: str = "",
    seed: int = 0,
    device: str = "auto",
    set: Mapping[str, Any] | Iterable[str] = (),
    trust: bool = False,
) -> SearchResult:
    """Search values of a bundle's configuration by training with them.

    The folder gets ``trials.csv``, ``best.json`` (the best values, as ``train(..., set=...)`` takes them),
    ``report.html`` and ``trials/`` with a run folder for each trial. The same call goes on with a search that was
    broken off; trials that are finished are never repeated. The best figure was chosen on the validation cases, so it
    flatters.

    Args:
        bundle: a name from ``bundle list``, a bundle folder or a run folder.
        data: the manifest.
        space: a JSON file of ids with their ranges, or what is in it; see
            :mod:`medresnet3d.workflows.search_space`.
        output: folder of the search; new, empty, or of the same search.
        method: ``optuna`` (tree-structured Parzen estimator), ``pso``, ``whale``, ``improved_whale`` or ``random``.
        trials: number of trainings.
        workers: processes on this machine. Others help when they run the same search with the same ``storage``.
        population: trainings of one generation of a swarm; about the square root of ``trials`` by default.
        objective: ``last``: the key validation metric after the last epoch; ``best``: that of the best epoch.
        budget: length of a training, for example ``200steps``, ``60s`` or ``3epochs``; by default the bundle's own.
        prune: end trials early that do worse than the median of the others at the same epoch; by default for
            ``optuna`` and ``random``, since swarms need every value.
        storage: ``journal:FILE`` or an address of a database; a SQLite file in ``output`` by default.
        seed: seed of the proposals; each training has the bundle's own.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        set: ids with the same value in every trial: a mapping, or ``id=value`` texts.
        trust: accept a bundle from elsewhere although the inspection found something.

    Returns:
        The trials, the best of them, and where everything is.

    Raises:
        ConfigError: if the space or an option makes no sense, the folder is taken, or Optuna is missing.
        DataError: if the manifest cannot be used, or worker processes die at once.
        BundleError: if the bundle is not found or has no key metric.
        UntrustedBundleError: if a bundle from elsewhere is not trusted.
        SearchInterrupted: after Ctrl-C, when the state is saved; a ``KeyboardInterrupt``.
    """
    load_optuna()
    _check_options(method, trials, workers, objective, budget, prune)
    overrides, folder = parse_overrides(set), Path(output).resolve()
    inputs = _read_inputs(bundle, data, space, overrides, trust)
    job = SearchJob(
        bundle=str(inputs.bundle),
        data=str(inputs.manifest.path),
        output=str(folder),
        space=describe(inputs.space),
        method=method,
        trials=trials,
        population=choose_population(method, trials, population),
        seed=seed,
        metric=inputs.metric,
        maximise=inputs.maximise,
        objective=objective,
        budget=budget,
        prune=method not in SWARMS if prune is None else prune,
        epochs=inputs.epochs,
        overrides=overrides,
        hashes={"bundle": inspect_bundle(inputs.bundle).content_hash, "data": inputs.manifest.content_hash()},
        storage=_storage(storage, folder),
        device=device,
        trust=trust,
    )
    space_file = folder / "space.json" if isinstance(space, Mapping) else Path(space)
    command = _command(job, bundle, space_file, workers, population, prune, storage)
    call = Call(os.fspath(bundle), inputs.manifest, command)
    enter_folder(job, command)
    atomic_write_text(folder / "space.json", json.dumps(job.space, indent=2) + "\n")
    return write_outcome(job, _run(job, workers, call), call)


@dataclass(frozen=True)
class _Inputs:
    """What a search starts from, read and checked."""

    bundle: Path
    manifest: Manifest
    space: tuple[Parameter, ...]
    metric: str
    maximise: bool
    epochs: int


def _read_inputs(
    bundle: str | os.PathLike[str],
    data: str | os.PathLike[str] | Manifest,
    space: str | os.PathLike[str] | Mapping[str, Any],
    overrides: Mapping[str, Any],
    trust: bool,
) -> _Inputs:
    source = find_bundle(bundle)
    require_trust(source, trust)
    manifest = data if isinstance(data, Manifest) else load_manifest(Path(data))
    if manifest.path is None:
        raise ConfigError(f"{manifest.name}: a search needs a manifest that lies in a file; write it to one.")
    check_task(source, manifest, overrides)
    parameters = read_space(space)
    parser = load_config(source, ("train.json",), overrides)
    _check_ids(parser, parameters, overrides, "the space" if isinstance(space, Mapping) else os.fspath(space))
    metric, maximise = _key_metric(parser, source)
    epochs = parser.get("max_epochs")
    return _Inputs(source, manifest, parameters, metric, maximise, epochs if isinstance(epochs, int) else 0)


def _check_options(method: str, trials: int, workers: int, objective: str, budget: str, prune: bool | None) -> None:
    for name, value, known in (("method", method, SEARCH_METHODS), ("objective", objective, OBJECTIVES)):
        if value not in known:
            raise ConfigError(f"--{name} is {value!r}; use one of {', '.join(known)}.")
    for name, number in (("trials", trials), ("workers", workers)):
        if number < 1:
            raise ConfigError(f"--{name} is {number}; give 1 or more.")
    if prune and method in SWARMS:
        raise ConfigError(f"--prune does not go with {method}: a swarm needs the value of every trial.")
    if budget:
        parse_budget(budget, UNITS)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("A search starts its own processes; run it without torchrun, with --workers.")


def _check_ids(parser: ConfigParser, parameters: Iterable[Parameter], overrides: Mapping[str, Any], where: str) -> None:
    for one in parameters:
        hint = unknown_id_hint(parser, one.name)
        if hint:
            raise ConfigError(f"{where}: the bundle's configuration has no id {one.name!r}; {hint}")
        if one.name in overrides:
            raise ConfigError(f"{where}: {one.name!r} is searched and also set by --set; leave one of them out.")


def _key_metric(parser: ConfigParser, bundle: Path) -> tuple[str, bool]:
    """Give the column of the key metric, and whether a larger value is the better one."""
    metrics = parser.get("validate::key_metric")
    names = [str(name) for name in metrics if not str(name).startswith("_")] if isinstance(metrics, Mapping) else []
    if not names:
        raise BundleError(f"{bundle.name}: its train.json names no validate::key_metric, which a search would improve.")
    smaller = "validate::evaluator::smaller_is_better"
    return f"val_{names[0]}", not (smaller in parser and parser.get_parsed_content(smaller))


def _storage(storage: str, folder: Path) -> str:
    if not storage:
        return f"sqlite:///{folder / 'study.db'}"
    # workers have the same current folder, but a search may be gone on with from another
    return f"journal:{Path(storage.removeprefix('journal:')).resolve()}" if storage.startswith("journal:") else storage


def _command(
    job: SearchJob,
    bundle: str | os.PathLike[str],
    space: Path,
    workers: int,
    population: int | None,
    prune: bool | None,
    storage: str,
) -> str:
    """Return the shell command of this search."""
    words = ["medresnet3d", "search", os.fspath(bundle), "--data", job.data, "--space", str(space), "-o", job.output]
    words += ["--method", job.method, "--trials", str(job.trials)]
    words += ["--workers", str(workers)] if workers > 1 else []
    words += ["--population", str(population)] if population is not None else []
    words += ["--objective", job.objective] if job.objective != "last" else []
    words += ["--budget", job.budget] if job.budget else []
    words += [] if prune is None else ["--prune" if prune else "--no-prune"]
    words += ["--storage", hide_password(storage)] if storage else []
    words += ["--seed", str(job.seed)] if job.seed else []
    words += ["--device", job.device] if job.device != "auto" else []
    for key, value in job.overrides.items():
        words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join(words)


def _run(job: SearchJob, workers: int, call: Call) -> list[TrialRecord]:
    with Progress("search", job.trials) as progress:
        display = _Display(job, progress)
        display.refresh()
        try:
            if display.ledger.finished():
                return display.ledger.records()
            if workers == 1:
                work(display.ledger, display.tell, lambda: None, display.refresh)
            else:
                _run_workers(job, workers, display)
        except KeyboardInterrupt:
            records = display.ledger.records()
            write_outcome(job, records, call)
            done = sum(one.finished for one in records)
            told = f"Stopped after {done} of {job.trials} trials. Go on with: {call.command}"
            raise SearchInterrupted(told) from None
        return display.ledger.records()


def _run_workers(job: SearchJob, count: int, display: _Display) -> None:
    workers = Workers(job, count)
    try:
        workers.start()
        while workers.tend(display.refresh()):
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        workers.stop()
        raise
    finally:
        workers.kill()


class _Display:
    """The progress of a search, and ``trials.csv`` as far as it is.

    Args:
        job: the search.
        progress: where to show it.
    """

    def __init__(self, job: SearchJob, progress: Progress) -> None:
        self.job = job
        self.ledger = Ledger(job)
        self.progress = progress
        self._finished = -1

    def tell(self, text: str) -> None:
        """Show a short text."""
        self.progress.advance(0, f"{self._best}{text}")

    def refresh(self) -> bool:
        """Show and write what has become known; say whether a trial has come to its end since the last time."""
        records = self.ledger.records()
        finished = sum(one.finished for one in records)
        if finished == self._finished:
            self.progress.advance(0)
            return False
        best = best_of(self.job, records)
        name = self.job.metric.removeprefix("val_")
        self._best = "" if best is None else f"best {name} {best.value:.4g} (trial {best.slot}), "
        self.progress.advance(finished - max(self.progress.done, 0), self._best.removesuffix(", "))
        write_table(self.job, records)
        self._finished = finished
        return True
