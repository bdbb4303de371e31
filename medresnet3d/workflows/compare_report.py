"""The report of a comparison: what the evidence says, and all that it rests on."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medresnet3d.reports.blocks import Block, Figure, Heading, KeyValues, Report, Table, Text, Tile, Tiles, Warnings
from medresnet3d.reports.builders import header, records_table, what_was_run
from medresnet3d.reports.comparison_figures import arms_plot, courses_plot, heat_map, learning_curve_plot
from medresnet3d.reports.html import format_value, write_report
from medresnet3d.workflows.compare_grid import FRACTION, Factor
from medresnet3d.workflows.compare_summary import (
    ALPHA,
    BASELINE,
    BETTER,
    NO_EVIDENCE,
    NOT_TESTED,
    WORSE,
    ArmSummary,
    CellResult,
    Summary,
)
from medresnet3d.workflows.compare_tables import cell_rows

_FEW_SEEDS = 5
_FEW_CASES = 50
_NAMED = 5


@dataclass(frozen=True)
class Setting:
    """How a comparison was made, for the report.

    Attributes:
        title: what was compared.
        bundle: name and version of the bundle.
        data: name of the data set.
        budget: of each cell, in words.
        training: number of training cases (of the first split).
        validation: number of held-out cases (of the first split).
        folds: number of folds that the seeds go through; ``None`` for a fixed split.
        learning_rates: rates that each cell chose from; empty: none was chosen.
        shared_rate: whether all arms were trained with the same learning rate.
        notes: what else the reader must know.
        what: facts on the run, with its command.
    """

    title: str
    bundle: str
    data: str
    budget: str
    training: int
    validation: int
    folds: int | None
    learning_rates: Sequence[float]
    shared_rate: bool
    notes: Sequence[str]
    what: Mapping[str, Any]


def comparison_report(
    path: Path, setting: Setting, summary: Summary, cells: Sequence[CellResult], factors: Sequence[Factor]
) -> Path:
    """Write the report of a comparison."""
    blocks: list[Block] = [
        Tiles(_tiles(summary, cells)),
        Text(conclusion(summary)),
        Warnings(_warnings(setting, summary)),
        Heading("Arms", f"Each dot is one run. The dotted line is the baseline. {_better(summary)} is better."),
        Figure(
            arms_plot(
                [a.name for a in summary.arms], [a.values for a in summary.arms], _means(summary), summary.metric
            ),
            f"{summary.metric} on the held-out cases: mean over seeds with its 95% interval.",
        ),
        _arm_table(summary.arms, summary.metric, "arm", " (summary.csv)"),
        *_factor_blocks(summary, factors),
        *_course_blocks(summary, cells),
        Heading("Cost", "Means over seeds. Memory is that of the tensors of one training step; on a GPU, the peak."),
        _cost_table(summary.arms),
        *_failures(cells),
        Heading("How this was measured"),
        Text(_method(setting, summary)),
        records_table(cell_rows(cells), "Every cell (results.csv)", folded=True),
        KeyValues(_settings(cells), "Settings of each arm", folded=True),
        *what_was_run(setting.what),
    ]
    facts = header({"bundle": setting.bundle, **{k: setting.what[k] for k in ("device",) if k in setting.what}})
    subtitle = f"{setting.bundle} on {setting.data}, {setting.budget} a cell"
    return write_report(Report(setting.title, subtitle, blocks, facts), path)


def _settings(cells: Sequence[CellResult]) -> dict[str, str]:
    return {cell.arm.name: json.dumps(cell.arm.overrides) for cell in cells}


def _means(summary: Summary) -> list[Any]:
    return [arm.mean for arm in summary.arms]


def _better(summary: Summary) -> str:
    return "Less" if summary.smaller_is_better else "More"


def conclusion(summary: Summary) -> str:
    """Say in words what the evidence allows one to say."""
    ranked = summary.ranked
    if not ranked:
        return "No cell came to a result, so there is nothing to compare."
    baseline, tested = summary.arms[0], [arm for arm in summary.arms[1:] if not math.isnan(arm.p_holm)]
    if math.isnan(baseline.mean.value):
        return f"The baseline {baseline.name} came to no result, so nothing can be compared with it."
    sentences = [f"Highest mean {summary.metric}" if not summary.smaller_is_better else f"Lowest mean {summary.metric}"]
    sentences = [f"{sentences[0]}: {_told(ranked[0])}. The worst: {_told(ranked[-1])}."] if len(ranked) > 1 else []
    for verdict, phrase in ((BETTER, "better"), (WORSE, "worse")):
        found = [arm.name for arm in tested if arm.verdict == verdict]
        if found:
            sentences.append(f"Evidence of being {phrase} than the baseline {baseline.name}: {', '.join(found)}.")
    undecided = [arm.name for arm in tested if arm.verdict == NO_EVIDENCE]
    if undecided and len(undecided) == len(tested):
        sentences.append(f"There is no evidence of a difference from the baseline {baseline.name} for any arm.")
    elif undecided:
        sentences.append(f"No evidence of a difference: {', '.join(undecided)}.")
    untested = [arm.name for arm in summary.arms[1:] if arm.verdict == NOT_TESTED]
    if untested:
        sentences.append(f"Not tested, since fewer than two pairs of runs have a result: {', '.join(untested)}.")
    widths = [_half_width(arm) for arm in tested if not math.isnan(_half_width(arm))]
    if undecided and widths:
        reach = format_value(statistics.median(widths))
        sentences.append(
            f"No evidence does not mean equal: differences of up to about {reach} could not be told from chance here."
        )
    return " ".join(sentences)


def _told(arm: ArmSummary) -> str:
    mark = " (the baseline)" if arm.verdict == BASELINE else ""
    return f"{arm.name}{mark}, {arm.mean}"


def _half_width(arm: ArmSummary) -> float:
    return math.nan if arm.test is None else (arm.test.difference.high - arm.test.difference.low) / 2


def _tiles(summary: Summary, cells: Sequence[CellResult]) -> list[Tile]:
    failed = sum(bool(cell.error) for cell in cells)
    tiles = []
    if summary.ranked:
        best, baseline = summary.ranked[0], summary.arms[0]
        verdict = "" if best.verdict == BASELINE else best.verdict
        tiles.append(Tile(f"best mean {summary.metric}: {best.name}", format_value(best.mean.value), verdict))
        tiles.append(Tile(f"baseline: {baseline.name}", format_value(baseline.mean.value), _interval(baseline)))
    tiles.append(Tile("arms", str(len(summary.arms)), f"{len(summary.arms[0].values)} seeds each"))
    tiles.append(Tile("cells finished", f"{len(cells) - failed} of {len(cells)}", f"{failed} failed" if failed else ""))
    return tiles


def _interval(arm: ArmSummary) -> str:
    return "" if math.isnan(arm.mean.low) else f"95% interval {arm.mean.low:.3f} to {arm.mean.high:.3f}"


def _warnings(setting: Setting, summary: Summary) -> list[str]:
    seeds = len(summary.arms[0].values)
    warnings = list(setting.notes)
    if seeds < _FEW_SEEDS:
        count = "One seed" if seeds == 1 else f"{seeds} seeds"
        consequence = "nothing can be tested" if seeds == 1 else "only large differences can be found"
        warnings.append(f"{count} an arm: {consequence}; use five or more (`--seeds 5`).")
    if setting.folds is None:
        warnings.append(
            f"All cells were measured on the same {setting.validation} held-out cases: intervals and tests say how "
            "results vary with the seed of a training, not with the patients (`--folds 5` holds out others each time)."
        )
    if setting.validation < _FEW_CASES:
        warnings.append(f"{setting.validation} held-out cases are few: any figure on them is coarse.")
    if setting.shared_rate:
        warnings.append(
            "All arms were trained with the same learning rate, which suits some better than others; with "
            "`--learning-rates` each chooses its own on an inner split."
        )
    for arm in summary.arms:
        if 0 < arm.failed < seeds:
            warnings.append(
                f"{arm.name}: {arm.failed} of {seeds} runs failed; its mean is over the others and flatters it."
            )
        if arm.same:
            warnings.append(
                f"{arm.name}: exactly the values of the baseline for every seed; the two do the same, or the bundle "
                "makes no use of what was varied."
            )
    return warnings


def _arm_table(arms: Sequence[ArmSummary], metric: str, what: str, file: str = "") -> Table:
    columns = [what, f"mean {metric}", "verdict", "95% interval", "difference", "95% interval ", "p", "p (Holm)"]
    rows = []
    for arm in arms:
        row: list[Any] = [arm.name, arm.mean.value, arm.verdict, _bounds(arm.mean)]
        if arm.test is None:
            row += [None, None, None, None]
        else:
            row += [f"{arm.test.difference.value:+.3f}" if arm.test.pairs else None, _bounds(arm.test.difference)]
            row += [arm.test.p, arm.p_holm]
        rows.append(row)
    return Table(columns, rows, f"Means over seeds, and paired differences from the baseline{file}")


def _bounds(estimate: Any) -> str | None:
    return None if math.isnan(estimate.low) else f"{estimate.low:.3f} to {estimate.high:.3f}"


def _learning_curve(summary: Summary) -> list[Block]:
    known = [arm for arm in summary.arms if not math.isnan(arm.costs["training_patients"])]
    known.sort(key=lambda arm: arm.costs["training_patients"])
    if not known:
        return []
    patients = [arm.costs["training_patients"] for arm in known]
    figure = learning_curve_plot(patients, [a.values for a in known], [a.mean for a in known], summary.metric)
    caption = f"{summary.metric} on the same held-out cases after training on a part of the patients, at equal steps."
    return [Heading("Learning curve"), Figure(figure, caption)]


def _factor_blocks(summary: Summary, factors: Sequence[Factor]) -> list[Block]:
    if [factor.name for factor in factors] == [FRACTION]:
        return _learning_curve(summary)
    blocks: list[Block] = []
    if len(factors) == 2 and summary.marginals:
        first, second = (list(factor.levels) for factor in factors)
        means = {(arm.levels[factors[0].name], arm.levels[factors[1].name]): arm.mean.value for arm in summary.arms}
        table = np.array([[means.get((a, b), math.nan) for b in second] for a in first])
        figure = heat_map(first, second, table, factors[0].name, factors[1].name)
        blocks += [Heading("Both factors"), Figure(figure, f"Mean {summary.metric} over seeds of every combination.")]
    for name, levels in summary.marginals.items():
        heading = Heading(f"Factor: {name}", "Averaged over the other factors, seed by seed, where no level failed.")
        blocks += [heading, _arm_table(levels, summary.metric, name)]
    return blocks


def _course_blocks(summary: Summary, cells: Sequence[CellResult]) -> list[Block]:
    losses, metrics = _courses(cells, 1), _courses(cells, 2)
    if not losses:
        return []
    order = [arm.name for arm in summary.ranked]
    chosen = dict.fromkeys([summary.arms[0].name, *order[: _NAMED - 2], *order[-1:]])
    panels = {"training loss": losses}
    if any(len(curve[0]) > 1 for curve in metrics.values()):
        panels[summary.metric] = metrics
    caption = "Means over seeds; the loss is smoothed. Losses of different kinds cannot be compared with each other."
    more = "" if len(losses) <= len(chosen) else " Grey: the other arms."
    return [
        Heading("Courses", "The baseline, the best and the worst arms over the training."),
        Figure(courses_plot(panels, list(chosen)), caption + more, "training curves"),
    ]


def _courses(cells: Sequence[CellResult], column: int) -> dict[str, tuple[Any, Any]]:
    """Give each arm's mean course of a figure over its finished seeds, over the steps that all of them made."""
    by_arm: dict[str, list[np.ndarray]] = {}
    for cell in cells:
        points = np.array([(row[0], row[column]) for row in cell.course if not math.isnan(row[column])]).reshape(-1, 2)
        if not cell.error and len(points):
            by_arm.setdefault(cell.arm.name, []).append(points)
    curves = {}
    for name, runs in by_arm.items():
        length = min(len(run) for run in runs)
        x, y = (np.mean([run[:length, axis] for run in runs], axis=0) for axis in (0, 1))
        curves[name] = (x, _smooth(y) if column == 1 else y)
    return curves


def _smooth(values: np.ndarray) -> np.ndarray:
    """Give the running mean over a tenth of the steps; shorter at the ends."""
    kernel = np.ones(2 * (len(values) // 20) + 1)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")


def _cost_table(arms: Sequence[ArmSummary]) -> Table:
    columns = ["arm", "steps", "seconds trained", "ms a step", "memory of a step, MB", "training loss at the end"]
    rows = []
    for arm in arms:
        cost = arm.costs
        rows.append(
            [
                arm.name,
                cost["steps"],
                cost["training_seconds"],
                1000 * cost["step_seconds"],
                cost["step_memory_mb"],
                cost["train_loss"],
            ]
        )
    return Table(columns, rows)


def _failures(cells: Sequence[CellResult]) -> list[Block]:
    failed = [cell for cell in cells if cell.error]
    if not failed:
        return []
    rows = [[cell.arm.name, cell.seed, cell.error, cell.folder] for cell in failed]
    return [Heading("Cells that failed"), Table(["arm", "seed", "error", "folder"], rows)]


def _method(setting: Setting, summary: Summary) -> str:
    split = (
        "the same held-out cases for all cells"
        if setting.folds is None
        else f"seed k holds out fold k modulo {setting.folds} of the patients, the same one in every arm"
    )
    rates = ", ".join(f"{rate:g}" for rate in setting.learning_rates)
    tuned = (
        f"Each cell chose its learning rate among {rates} on an inner split of its training cases, with the same "
        "budget for each rate, and was then trained anew on all its training cases. "
        if setting.learning_rates
        else ""
    )
    widened = (
        "Since folds share training cases, variances are widened after Nadeau and Bengio (2003). "
        if setting.folds is not None
        else ""
    )
    return (
        f"{setting.training} training and {setting.validation} held-out cases; {split}. Every cell trains for "
        f"{setting.budget}; its schedule is made for exactly that many steps. A budget in seconds is each cell's own "
        "training time, turned into a number of steps by timing its first ones; building, reading and measuring do not "
        f"count. {tuned}\n\n"
        f"The metric is {summary.metric} on the held-out cases with the weights at the end of the budget, not of the "
        "best epoch, which would flatter. A cell with early stopping sets a fifth of its training patients aside to "
        "choose its weights by.\n\n"
        f"Intervals are Student's t over seeds. Each arm is compared with the baseline by a paired t-test over seeds; "
        f"p-values are corrected for the number of comparisons by Holm's method; the level is {ALPHA:g}. {widened}"
        "The best of several arms is chosen by the same figures that are shown, so its mean is optimistic."
    )
