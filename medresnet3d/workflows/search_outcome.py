"""What a search leaves in its folder: the table of trials, the best values and the report."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medresnet3d.errors import ExitCode
from medresnet3d.io.atomic import atomic_write_text
from medresnet3d.workflows.run_folder import command_line
from medresnet3d.workflows.search_job import SWARMS, SearchJob
from medresnet3d.workflows.search_ledger import TrialRecord, hide_password, load_optuna
from medresnet3d.workflows.search_space import Parameter

if TYPE_CHECKING:
    from medresnet3d.data.manifest import Manifest
    from medresnet3d.reports.search import SearchAxis, SearchTrial

_MIN_FOR_IMPORTANCE = 10


@dataclass(frozen=True)
class Call:
    """How a search was asked for.

    Attributes:
        bundle: the bundle as the user named it.
        manifest: the data.
        command: the shell command of the search.
    """

    bundle: str
    manifest: Manifest
    command: str


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        folder: folder of the search.
        trials: all trials, in order.
        best: the best of the complete ones; ``None`` if there is none.
        values: every id that the best trial set, ready for ``train(..., set=values)``; empty if there is none.
        metric: name of the metric.
        train_command: trains again with the best values.
        evaluate_command: measures the best trial on cases that did not choose it.
        report: path of the report.
    """

    folder: Path
    trials: list[TrialRecord]
    best: TrialRecord | None
    values: dict[str, Any]
    metric: str
    train_command: str
    evaluate_command: str
    report: Path

    @property
    def exit_code(self) -> ExitCode:
        """0 if no trial failed, 1 if some did, 3 if none came to a value."""
        if self.best is None:
            return ExitCode.NOTHING_DONE
        return ExitCode.SOME_FAILED if any(one.state == "failed" for one in self.trials) else ExitCode.OK


def best_of(job: SearchJob, records: Sequence[TrialRecord]) -> TrialRecord | None:
    """The best complete trial, the earlier one of equals; ``None`` if none is complete."""
    sign = -1.0 if job.maximise else 1.0
    complete = [one for one in records if one.state == "complete" and one.value is not None]
    return min(complete, key=lambda one: (sign * (one.value or 0.0), one.slot), default=None)


def write_table(job: SearchJob, records: Sequence[TrialRecord]) -> None:
    """Write ``trials.csv``: a line for each trial."""
    from medresnet3d.engines.logs import write_metrics

    rows: list[dict[str, Any]] = []
    for one in records:
        row = {"trial": one.slot, "state": one.state, job.metric: "" if one.value is None else one.value}
        row |= {parameter.name: one.stored.get(parameter.name, "") for parameter in job.parameters}
        row |= {name: one.notes.get(name, "") for name in ("epochs", "best_epoch", "seconds", "same_as")}
        rows.append({**row, "attempts": one.attempts, "error": one.notes.get("error", "")})
    if rows:
        write_metrics(rows, job.folder / "trials.csv")


def write_outcome(job: SearchJob, records: Sequence[TrialRecord], call: Call) -> SearchResult:
    """Write the table, ``best.json`` and the report of a search, finished or not.

    Args:
        job: the search.
        records: its trials.
        call: how it was asked for.
    """
    best = best_of(job, records)
    values = {} if best is None else dict(best.notes.get("set", best.values))
    result = SearchResult(
        folder=job.folder,
        trials=list(records),
        best=best,
        values=values,
        metric=job.metric.removeprefix("val_"),
        train_command=_train_command(job, call.bundle, values) if best else "",
        evaluate_command=_evaluate_command(job, best, call.manifest) if best else "",
        report=job.folder / "report.html",
    )
    write_table(job, records)
    if best is not None:
        atomic_write_text(job.folder / "best.json", json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    _write_report(job, result, call)
    return result


def _train_command(job: SearchJob, bundle: str, values: dict[str, Any]) -> str:
    return command_line(bundle, job.data, job.folder.with_name(f"{job.folder.name}-best"), values, job.device)


def _evaluate_command(job: SearchJob, best: TrialRecord, manifest: Manifest) -> str:
    """Measure the best trial's own bundle, or, where that lies on another machine, that of a new training."""
    run = Path(best.notes.get("place", ""))
    run = run if run.is_absolute() and run.is_dir() else job.folder.with_name(f"{job.folder.name}-best")
    data = job.data if manifest.sections.get("test") else "TEST_MANIFEST"
    words = ["medresnet3d", "evaluate", str(run), "--data", data, "-o", str(job.folder / "test"), "--section", "test"]
    return shlex.join(words)


def _write_report(job: SearchJob, result: SearchResult, call: Call) -> None:
    from medresnet3d.reports.search import search_report

    what = {
        "bundle": call.bundle,
        "data set": call.manifest.name,
        "method": f"{job.method} (levy, inferred)" if job.method == "improved_whale" else job.method,
        "trials": job.trials,
        **({"trials of a generation": job.population} if job.method in SWARMS else {}),
        "objective": f"{result.metric} of the {'last epoch' if job.objective == 'last' else 'best epoch'}",
        "length of a trial": job.budget or "the bundle's own",
        "pruning": "median, by epoch" if job.prune else "none",
        "seed of the proposals": job.seed,
        "set in every trial": ", ".join(f"{key}={value}" for key, value in job.overrides.items()) or "nothing",
        "study": f"{job.study} in {hide_password(job.storage)}",
        "command": call.command,
    }
    search_report(
        result.report,
        trials=[_point(one) for one in result.trials],
        axes=[_axis(one) for one in job.parameters],
        metric=result.metric,
        maximise=job.maximise,
        best=None if result.best is None else result.best.slot,
        planned=job.trials,
        importance=_importance(job, result.trials),
        train_command=result.train_command,
        evaluate_command=result.evaluate_command,
        has_test=bool(call.manifest.sections.get("test")),
        what=what,
    )


def _point(record: TrialRecord) -> SearchTrial:
    from medresnet3d.reports.search import SearchTrial

    return SearchTrial(
        number=record.slot,
        state=record.state,
        value=record.value,
        values=record.stored,
        curve=record.curve,
        seconds=record.notes.get("seconds"),
        best_epoch=record.notes.get("best_epoch"),
        error=record.notes.get("error", ""),
        same_as=record.notes.get("same_as"),
    )


def _axis(one: Parameter) -> SearchAxis:
    from medresnet3d.reports.search import SearchAxis

    return SearchAxis(one.name, str(one), one.log, one.labels, one.low, one.high)


def _importance(job: SearchJob, records: Sequence[TrialRecord]) -> dict[str, float]:
    """Give Optuna's estimate (PED-ANOVA) of how much each id decides; empty with too few trials to say."""
    optuna = load_optuna()
    complete = [one for one in records if one.state == "complete"]
    if len(complete) < _MIN_FOR_IMPORTANCE or len(job.parameters) < 2 or len({one.value for one in complete}) < 2:
        return {}
    study = optuna.create_study(direction="maximize" if job.maximise else "minimize")
    distributions = {one.name: one.distribution() for one in job.parameters}
    for one in complete:
        study.add_trial(optuna.create_trial(params=one.stored, distributions=distributions, value=one.value))
    return {name: float(share) for name, share in optuna.importance.get_param_importances(study).items()}
