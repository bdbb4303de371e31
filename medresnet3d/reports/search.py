"""The report of a search of hyper-parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medresnet3d.reports.blocks import (
    Bars,
    Block,
    Figure,
    Figures,
    Heading,
    KeyValues,
    Report,
    Table,
    Text,
    Tile,
    Tiles,
    Warnings,
)
from medresnet3d.reports.builders import METRIC_NAMES, header, what_was_run
from medresnet3d.reports.html import format_value, write_report


@dataclass(frozen=True)
class SearchTrial:
    """One trial.

    Attributes:
        number: from 0.
        state: ``complete``, ``pruned``, ``failed``, ``running`` or ``waiting``.
        value: its metric, if it has one.
        values: what it tried, by id: numbers, or labels of choices.
        curve: the metric by epoch.
        seconds: how long it took.
        best_epoch: the epoch with the best metric.
        error: why it failed.
        same_as: an earlier trial with the same values, which was not repeated.
    """

    number: int
    state: str
    value: float | None
    values: Mapping[str, Any]
    curve: Mapping[int, float] = field(default_factory=dict)
    seconds: float | None = None
    best_epoch: int | None = None
    error: str = ""
    same_as: int | None = None


@dataclass(frozen=True)
class SearchAxis:
    """One id that was searched.

    Attributes:
        name: the id.
        text: what it may be, in a few words.
        log: whether it is logarithmic.
        labels: its choices; empty for a number.
        low: smallest value of a number.
        high: largest value of a number.
    """

    name: str
    text: str
    log: bool = False
    labels: Sequence[str] = ()
    low: float = 0.0
    high: float = 1.0


def search_report(
    path: Path,
    *,
    trials: Sequence[SearchTrial],
    axes: Sequence[SearchAxis],
    metric: str,
    maximise: bool,
    best: int | None,
    planned: int,
    importance: Mapping[str, float],
    train_command: str,
    evaluate_command: str,
    has_test: bool,
    what: Mapping[str, Any],
) -> Path:
    """Write the report of a search.

    Args:
        path: the file to write.
        trials: the trials so far.
        axes: what was searched.
        metric: name of the metric.
        maximise: whether a larger metric is the better one.
        best: number of the best trial, if there is one.
        planned: number of trials when the search is at its end.
        importance: share of each id in what decides, if it is known.
        train_command: trains with the best values.
        evaluate_command: measures the best trial on other cases.
        has_test: whether the manifest lists test cases.
        what: what was run.
    """
    chosen = next((one for one in trials if one.number == best), None)
    metric = METRIC_NAMES.get(metric, metric)
    blocks: list[Block] = [
        Tiles(_tiles(trials, chosen, metric, planned)),
        Warnings(_warnings(trials, chosen, planned)),
        *_best_blocks(chosen, metric, train_command, evaluate_command, has_test),
        *_history_blocks(trials, metric, maximise),
        *_parameter_blocks(trials, axes, metric, maximise, importance),
        Heading("All trials"),
        _table(trials, axes, metric),
        *what_was_run(what),
    ]
    subtitle = f"{what['bundle']} on {what['data set']}: {len(axes)} ids, {what['method']}"
    return write_report(Report("Search of hyper-parameters", subtitle, blocks, header(what)), path)


def _count(trials: Sequence[SearchTrial], state: str) -> int:
    return sum(one.state == state for one in trials)


def _tiles(trials: Sequence[SearchTrial], best: SearchTrial | None, metric: str, planned: int) -> list[Tile]:
    ended = [f"{_count(trials, state)} {state}" for state in ("pruned", "failed") if _count(trials, state)]
    tiles = [Tile("complete trials", f"{_count(trials, 'complete')} of {planned}", ", ".join(ended))]
    if best is not None:
        tiles.insert(0, Tile(f"best {metric}, validation", format_value(best.value), f"trial {best.number}; flatters"))
    seconds = sum(one.seconds or 0.0 for one in trials)
    return [*tiles, Tile("training time", f"{seconds / 60:.1f} min", "all trials together")]


def _warnings(trials: Sequence[SearchTrial], best: SearchTrial | None, planned: int) -> list[str]:
    warnings = []
    if best is not None:
        warnings.append(
            f"The best figure was chosen on the validation cases, as the best of {_count(trials, 'complete')} complete "
            "trials, so it flatters; more trials flatter more. Report the figure of cases that chose nothing."
        )
    failed = _count(trials, "failed")
    if failed:
        warnings.append(f"{failed} {'trial' if failed == 1 else 'trials'} failed; the table says why.")
    open_trials = planned - sum(_count(trials, state) for state in ("complete", "pruned", "failed"))
    if open_trials:
        warnings.append(f"The search is not at its end: {open_trials} of {planned} trials are still to be done.")
    return warnings


def _best_blocks(
    best: SearchTrial | None, metric: str, train_command: str, evaluate_command: str, has_test: bool
) -> list[Block]:
    if best is None:
        return [Heading("Best trial"), Text("No trial has come to a value yet.")]
    values = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in best.values.items()}
    facts = {**values, metric: best.value, "best epoch": best.best_epoch}
    where = (
        "measures it on the test cases of the manifest"
        if has_test
        else "measures it, once there is a manifest with test cases (this one lists none)"
    )
    return [
        Heading("Best trial", f"trial {best.number}"),
        KeyValues(facts, "Its values"),
        KeyValues({}, f"This {where}", command=evaluate_command),
        KeyValues({}, "This trains with its values again", command=train_command),
    ]


def _history_blocks(trials: Sequence[SearchTrial], metric: str, maximise: bool) -> list[Block]:
    from medresnet3d.reports.search_figures import curves_plot, history_plot

    if not any(one.value is not None for one in trials):
        return []
    figures = [Figure(history_plot(trials, metric, maximise), f"{metric} of each trial, and the best so far.")]
    if any(len(one.curve) > 1 for one in trials):
        pruned = "; dashed: pruned" if _count(trials, "pruned") else ""
        figures.append(Figure(curves_plot(trials, metric, maximise), f"{metric} by epoch{pruned}."))
    return [Heading("History"), Figures(figures)]


def _parameter_blocks(
    trials: Sequence[SearchTrial],
    axes: Sequence[SearchAxis],
    metric: str,
    maximise: bool,
    importance: Mapping[str, float],
) -> list[Block]:
    from medresnet3d.reports.search_figures import parallel_plot, slice_plot

    blocks: list[Block] = [
        Heading("Space"),
        Table(["id", "may be"], [[axis.name, axis.text] for axis in axes]),
    ]
    if sum(one.state == "complete" for one in trials) < 2:
        return blocks
    slices = [Figure(slice_plot(trials, axis, metric), f"{metric} by {axis.name}.") for axis in axes]
    blocks.append(Figures(slices))
    if len(axes) > 1:
        caption = f"Each line is a trial; the better its {metric}, the stronger the line."
        blocks.append(Figure(parallel_plot(trials, axes, metric, maximise), caption, "parallel coordinates"))
    if importance:
        note = "share of each id in what tells good trials from the others (PED-ANOVA), an estimate from these trials"
        blocks += [Heading("What decides", note), Bars(list(importance), list(importance.values()))]
    return blocks


def _table(trials: Sequence[SearchTrial], axes: Sequence[SearchAxis], metric: str) -> Table:
    with_errors = any(one.error for one in trials)
    columns = ["trial", "state", metric, *(axis.name for axis in axes), "best epoch", "seconds"]
    rows = []
    for one in trials:
        state = one.state if one.same_as is None else f"as trial {one.same_as}"
        row = [one.number, state, one.value, *(one.values.get(axis.name) for axis in axes)]
        row += [one.best_epoch, one.seconds]
        rows.append([*row, one.error] if with_errors else row)
    return Table([*columns, "error"] if with_errors else columns, rows)
