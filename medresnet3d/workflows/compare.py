"""``compare``: which of several parts is better on one's own data, at equal budget, with the evidence for it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medresnet3d.bundle.inspect import inspect_bundle
from medresnet3d.bundle.load import load_config, parse_overrides
from medresnet3d.bundle.registry import find_bundle, read_metadata
from medresnet3d.bundle.trust import require_trust
from medresnet3d.data.manifest import Manifest, load_manifest
from medresnet3d.errors import ConfigError, ExitCode
from medresnet3d.progress import Progress
from medresnet3d.workflows.budget import Budget, parse_budget
from medresnet3d.workflows.compare_grid import Arm, Factor, Vary, make_arms, parse_factors
from medresnet3d.workflows.compare_job import COURSE, Job, cell_name
from medresnet3d.workflows.compare_pool import Pool, count_workers, run_here
from medresnet3d.workflows.compare_splits import Split, write_split
from medresnet3d.workflows.compare_summary import CellResult, Summary, summarise
from medresnet3d.workflows.compare_tables import arm_rows, cell_rows, write_table
from medresnet3d.workflows.run_folder import write_json
from medresnet3d.workflows.train import check_task, fit_classes

if TYPE_CHECKING:
    from medresnet3d.workflows.compare_presets import Survey

PLAN = "comparison.json"
DEFAULT_BUDGET = Budget(120, "seconds")


@dataclass(frozen=True)
class Comparison:
    """What a comparison came to.

    Attributes:
        folder: holds ``report.html``, ``results.csv``, ``summary.csv``, ``cells/`` and ``splits/``.
        summary: means, intervals, tests and verdicts.
        cells: every cell.
        conclusion: what the evidence says, in words.
    """

    folder: Path
    summary: Summary
    cells: Sequence[CellResult] = field(repr=False)
    conclusion: str

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    @property
    def exit_code(self) -> ExitCode:
        """Whether all, some or none of the cells came to a result."""
        failed = sum(bool(cell.error) for cell in self.cells)
        if not failed:
            return ExitCode.OK
        return ExitCode.NOTHING_DONE if failed == len(self.cells) else ExitCode.SOME_FAILED


@dataclass(frozen=True)
class Options:
    """How a comparison is made; see :func:`compare`."""

    seeds: int = 5
    budget: Budget = DEFAULT_BUDGET
    learning_rates: tuple[float, ...] = ()
    folds: int | None = None
    points: int = 5
    overrides: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    workers: int | str = "auto"
    threads: int = 1
    retry_failed: bool = False
    title: str = ""
    notes: tuple[str, ...] = ()


class ComparisonInterrupted(KeyboardInterrupt):
    """A comparison was stopped by Ctrl-C; what is finished is kept, and the message says how to go on."""


def compare(
    bundle: str | os.PathLike[str],
    data: str | os.PathLike[str] | Manifest,
    output: str | os.PathLike[str],
    *,
    vary: Vary | None = None,
    preset: str | None = None,
    baseline: Iterable[str] = (),
    one_at_a_time: bool = False,
    seeds: int | None = None,
    budget: str | Budget | None = None,
    learning_rates: Iterable[float] = (),
    folds: int | None = None,
    set: Mapping[str, Any] | Iterable[str] = (),
    device: str = "auto",
    workers: int | str = "auto",
    threads: int = 1,
    retry_failed: bool = False,
    trust: bool = False,
) -> Comparison | Survey:
    """Train every combination of what is varied, at equal budget and on the same splits, and say what differs.

    Started again with the same folder, it goes on where it was interrupted: finished cells are never run again, and
    more seeds or levels use what is there.

    Args:
        bundle: a name from ``bundle list``, a bundle folder or a run folder.
        data: the manifest; its ``validation`` list, or else a fifth of its training patients, is what is measured on.
        output: folder of the comparison; new, empty or that of an earlier one.
        vary: what is varied: texts ``"activation=relu,elu"``, or a mapping of factors to values or named levels.
        preset: in its place one of the survey's own comparisons, e.g. ``"survey-activations"``; ``"survey-all"`` runs
            all of them.
        baseline: texts ``"factor=level"``; the first level of each factor by default.
        one_at_a_time: change one factor of the baseline at a time, instead of all combinations.
        seeds: number of runs of each arm; 5 by default, 3 for a preset.
        budget: of each cell: ``"120s"``, ``"2m"`` (its own training time) or ``"300steps"``; 120 seconds by default,
            20 for a preset.
        learning_rates: each cell takes the one that does best on an inner split; empty: the configuration's own.
        folds: seed k holds out fold k of so many, by patient, in place of the fixed split.
        set: configuration ids to override in all arms: a mapping, or ``id=value`` texts.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        workers: number of processes; ``"auto"``: one a GPU, or one a CPU core; 1: this process.
        threads: number of threads of each worker.
        retry_failed: run cells again that failed in an earlier run.
        trust: accept a bundle from elsewhere although the inspection found something.

    Returns:
        The comparison; a :class:`Survey` of several for ``"survey-all"``.

    Raises:
        ConfigError: if what is varied, an override or an option makes no sense, or the folder is taken.
        DataError: if the manifest cannot be used.
        BundleError: if the bundle is not found.
        UntrustedBundleError: if a bundle from elsewhere is not trusted.
        ComparisonInterrupted: after Ctrl-C.
    """
    if (vary is None) == (preset is None):
        raise ConfigError("Say what is varied: either vary (--vary factor=value,value) or a preset (--preset NAME).")
    options = Options(
        seeds=(5 if preset is None else 3) if seeds is None else seeds,
        budget=parse_budget(budget or ("120s" if preset is None else "20s")),
        learning_rates=tuple(float(rate) for rate in learning_rates),
        folds=folds,
        overrides=parse_overrides(set),
        device=device,
        workers=workers,
        threads=threads,
        retry_failed=retry_failed,
    )
    if vary is not None:
        factors = parse_factors(vary, baseline)
        return compare_factors(bundle, data, output, factors, make_arms(factors, one_at_a_time), options, trust)
    from medresnet3d.workflows.compare_presets import compare_preset

    return compare_preset(bundle, data, output, str(preset), options, trust)


def compare_factors(
    bundle: str | os.PathLike[str],
    data: str | os.PathLike[str] | Manifest,
    output: str | os.PathLike[str],
    factors: Sequence[Factor],
    arms: Sequence[Arm],
    options: Options,
    trust: bool = False,
) -> Comparison:
    """Compare arms that are given; see :func:`compare`."""
    from medresnet3d.engines.device import select_device

    _check_options(options)
    source, folder = find_bundle(bundle), Path(output).resolve()
    require_trust(source, trust)
    manifest = data if isinstance(data, Manifest) else load_manifest(Path(data))
    check_task(source, manifest, options.overrides)
    check_folder(folder)
    common = fit_classes(source, manifest, dict(options.overrides))
    _check_ids(source, common, arms, options)
    splits = [write_split(manifest, folder / "splits", fold, options.folds or 1) for fold in _folds(options)]
    hashes = {"bundle": inspect_bundle(source).content_hash, "data": manifest.content_hash()}
    hashes["device"] = select_device(options.device).type
    pairs = [
        (arm, seed, _job(source, splits[seed % len(splits)], {**common, **arm.overrides}, seed, options))
        for seed in range(options.seeds)
        for arm in arms
    ]
    named = [(arm, seed, _placed(job, folder, arm, hashes)) for arm, seed, job in pairs]
    _write_plan(folder, source, manifest, arms, options, hashes)
    _run([job for _, _, job in named], folder, options)
    cells = [_read(arm, seed, options.folds, job) for arm in arms for a, seed, job in named if a is arm]
    return _finish(folder, source, manifest, factors, cells, splits, options)


def _check_options(options: Options) -> None:
    if options.seeds < 1:
        raise ConfigError(
            f"--seeds {options.seeds}: give 1 or more (5 or more to find anything but large differences)."
        )
    if options.folds is not None and options.folds < 2:
        raise ConfigError(f"--folds {options.folds}: give 2 or more.")
    if options.threads < 1:
        raise ConfigError(f"--threads {options.threads}: give 1 or more.")
    if any(not rate > 0 for rate in options.learning_rates) or len(options.learning_rates) == 1:
        raise ConfigError("--learning-rates: give two or more numbers above 0, separated by commas.")


def _check_ids(source: Path, common: Mapping[str, Any], arms: Sequence[Arm], options: Options) -> None:
    """Refuse ids that the bundle does not have before anything is computed."""
    rate = {"learning_rate": options.learning_rates[0]} if options.learning_rates else {}
    for arm in arms:
        if rate and "learning_rate" in arm.overrides:
            raise ConfigError("The learning rate is varied and chosen by --learning-rates; leave one of the two out.")
        load_config(source, ("train.json",), {**common, **arm.overrides, **rate})


def check_folder(folder: Path) -> None:
    """Claim a folder for a comparison; refuse one that holds something else.

    Raises:
        ConfigError: if it does.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; give a folder for the comparison with -o.")
    if folder.is_dir() and not (folder / PLAN).is_file() and any(folder.iterdir()):
        raise ConfigError(f"{folder} holds something else than a comparison; choose another folder with -o.")
    if not (folder / PLAN).is_file():
        write_json({}, folder / PLAN)


def _folds(options: Options) -> list[int | None]:
    return [None] if options.folds is None else list(range(min(options.folds, options.seeds)))


def _job(source: Path, split: Split, overrides: dict[str, Any], seed: int, options: Options) -> Job:
    budget = (options.budget.amount, options.budget.unit)
    places = (str(source), str(split.outer), str(split.inner))
    return Job(*places, overrides, seed, budget, options.learning_rates, options.points, options.device)


def _placed(job: Job, folder: Path, arm: Arm, hashes: Mapping[str, str]) -> Job:
    return replace(job, folder=str(folder / "cells" / cell_name(job, arm.name, hashes)))


def _write_plan(
    folder: Path, source: Path, manifest: Manifest, arms: Sequence[Arm], options: Options, hashes: Mapping[str, str]
) -> None:
    from medresnet3d.reports.builders import versions

    plan = {
        "bundle": {"name": source.name, "path": str(source), "content_hash": hashes["bundle"]},
        "data": {"name": manifest.name, "path": str(manifest.path), "content_hash": hashes["data"]},
        "arms": {arm.name: arm.overrides for arm in arms},
        "set": dict(options.overrides),
        "seeds": options.seeds,
        "folds": options.folds,
        "budget": str(options.budget),
        "learning_rates": list(options.learning_rates),
        "device": options.device,
        "versions": versions(),
    }
    write_json(plan, folder / PLAN)


def _run(jobs: Sequence[Job], folder: Path, options: Options) -> None:
    from medresnet3d.workflows.compare_cell import forget_failure

    for job in jobs if options.retry_failed else ():
        forget_failure(job)
    waiting = [job for job in jobs if not job.result.is_file()]
    if not waiting:
        return
    count, devices = count_workers(options.workers, options.device, len(waiting))
    try:
        with Progress("comparing", len(waiting)) as progress:
            if count == 1 and options.workers in (1, "1"):
                run_here([replace(job, device=devices[0]) for job in waiting], options.threads, progress)
            else:
                with Pool(devices, options.threads, folder / "logs") as pool:
                    pool.run(waiting, progress)
    except KeyboardInterrupt:
        done = sum(job.result.is_file() for job in jobs)
        raise ComparisonInterrupted(
            f"Stopped with {done} of {len(jobs)} cells finished, which are kept in {folder}; the same command goes on."
        ) from None


def _read(arm: Arm, seed: int, folds: int | None, job: Job) -> CellResult:
    from medresnet3d.workflows.compare_course import read_course

    folder = Path(job.folder)
    rows = [(row["step"], row["loss"], row["metric"]) for row in read_course(folder / COURSE)]
    result = json.loads(job.result.read_text(encoding="utf-8"))
    return CellResult(arm, seed, None if folds is None else seed % folds, folder.name, result, rows)


def _finish(
    folder: Path,
    source: Path,
    manifest: Manifest,
    factors: Sequence[Factor],
    cells: Sequence[CellResult],
    splits: Sequence[Split],
    options: Options,
) -> Comparison:
    from medresnet3d.engines.device import describe_device, select_device
    from medresnet3d.workflows.compare_report import Setting, comparison_report, conclusion

    first = splits[0]
    overlap = 0.0 if options.folds is None else first.validation / first.training
    summary = summarise(cells, factors, overlap)
    write_table(cell_rows(cells), folder / "results.csv")
    write_table(arm_rows(summary), folder / "summary.csv")
    metadata = read_metadata(source)
    name = f"{metadata.get('name') or source.name} {metadata.get('version', '')}".strip()
    facts = {
        "bundle": name,
        "data set": manifest.name,
        "manifest sha256": manifest.content_hash(),
        "device": describe_device(select_device(options.device)),
        "settings of all arms": ", ".join(f"{key}={value}" for key, value in options.overrides.items())
        or "the bundle's",
    }
    title = options.title or f"Comparison of {' and '.join(factor.name for factor in factors)}"
    setting = Setting(
        title,
        name,
        manifest.name,
        str(options.budget),
        first.training,
        first.validation,
        options.folds,
        options.learning_rates,
        _shares_rate(options, cells),
        options.notes,
        facts,
    )
    comparison_report(folder / "report.html", setting, summary, cells, factors)
    return Comparison(folder, summary, cells, conclusion(summary))


def _shares_rate(options: Options, cells: Sequence[CellResult]) -> bool:
    """Say whether one learning rate was used for all: neither chosen nor varied, nor left to each rule (null)."""
    if options.learning_rates or options.overrides.get("learning_rate", 0) is None:
        return False
    return not any("learning_rate" in cell.arm.overrides for cell in cells)
