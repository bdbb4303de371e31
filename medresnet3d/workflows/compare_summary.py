"""What the cells of a comparison come to: means, intervals and paired tests, and the verdict on each arm."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medresnet3d.metrics.estimate import Estimate
from medresnet3d.metrics.paired import PairedTest, holm, mean_interval, paired_test
from medresnet3d.workflows.compare_grid import Arm, Factor

ALPHA = 0.05
BASELINE, BETTER, WORSE = "baseline", "better", "worse"
NO_EVIDENCE, NOT_TESTED = "no evidence of a difference", "not tested"
_COSTS = ("train_loss", "steps", "training_seconds", "step_seconds", "step_memory_mb", "training_patients")


@dataclass(frozen=True)
class CellResult:
    """A cell and what it came to.

    Attributes:
        arm: its arm.
        seed: its seed.
        fold: the fold that it held out; ``None`` for a fixed split.
        folder: name of its folder.
        result: content of its result file.
        course: (step, loss, metric) over the training; the metric is NaN where it was not measured.
    """

    arm: Arm
    seed: int
    fold: int | None
    folder: str
    result: Mapping[str, Any]
    course: Sequence[tuple[float, float, float]] = field(default=(), repr=False)

    @property
    def error(self) -> str:
        """Why there is no figure; empty if there is one."""
        return str(self.result.get("error", ""))

    def figure(self, name: str) -> float:
        """Give a figure of the result; NaN where it is missing."""
        value = self.result.get(name)
        return math.nan if value is None else float(value)


@dataclass(frozen=True)
class ArmSummary:
    """An arm over all seeds.

    Attributes:
        name: name of the arm, or of a factor's level where other factors are averaged over.
        levels: the level of each factor.
        values: the metric for each seed; NaN where the cell failed.
        mean: their mean with its 95% interval.
        test: paired comparison with the baseline; ``None`` for the baseline itself.
        p_holm: its p-value, corrected for the number of comparisons; NaN where nothing was tested.
        verdict: one of the constants of this module.
        same: whether every value equals the baseline's.
        costs: means of loss, steps, seconds and memory.
    """

    name: str
    levels: Mapping[str, str]
    values: Sequence[float]
    mean: Estimate
    test: PairedTest | None
    p_holm: float
    verdict: str
    same: bool = False
    costs: Mapping[str, float] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """Number of seeds without a figure."""
        return sum(math.isnan(value) for value in self.values)


@dataclass(frozen=True)
class Summary:
    """A whole comparison.

    Attributes:
        metric: name of the metric.
        smaller_is_better: its direction.
        arms: all arms, the baseline first.
        marginals: for several factors, each factor's levels averaged over the other factors, by factor.
    """

    metric: str
    smaller_is_better: bool
    arms: Sequence[ArmSummary]
    marginals: Mapping[str, Sequence[ArmSummary]]

    @property
    def ranked(self) -> list[ArmSummary]:
        """The arms that have a mean, the best first."""
        known = [arm for arm in self.arms if not math.isnan(arm.mean.value)]
        return sorted(known, key=lambda arm: arm.mean.value, reverse=not self.smaller_is_better)


def summarise(cells: Sequence[CellResult], factors: Sequence[Factor], overlap: float = 0.0) -> Summary:
    """Summarise a comparison.

    Args:
        cells: all cells; arms in order, the baseline first, each with the same seeds.
        factors: what was varied.
        overlap: see :func:`medresnet3d.metrics.paired.mean_interval`.
    """
    finished = [cell for cell in cells if not cell.error]
    metric = str(finished[0].result["metric_name"]) if finished else "metric"
    smaller = bool(finished[0].result["smaller_is_better"]) if finished else False
    by_arm: dict[str, list[CellResult]] = {}
    for cell in cells:
        by_arm.setdefault(cell.arm.name, []).append(cell)
    values = {name: [cell.figure("metric") for cell in own] for name, own in by_arm.items()}
    levels = {name: own[0].arm.levels for name, own in by_arm.items()}
    costs = {name: {key: _mean([cell.figure(key) for cell in own]) for key in _COSTS} for name, own in by_arm.items()}
    arms = _compare(values, levels, next(iter(by_arm)), smaller, overlap, costs)
    return Summary(metric, smaller, arms, _marginals(values, levels, factors, smaller, overlap))


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return statistics.fmean(known) if known else math.nan


def _compare(
    values: Mapping[str, Sequence[float]],
    levels: Mapping[str, Mapping[str, str]],
    baseline: str,
    smaller_is_better: bool,
    overlap: float,
    costs: Mapping[str, Mapping[str, float]],
) -> list[ArmSummary]:
    tests = {name: paired_test(own, values[baseline], overlap) for name, own in values.items() if name != baseline}
    corrected = dict(zip(tests, holm([test.p for test in tests.values()]), strict=True))
    summaries = []
    for name, own in values.items():
        test, p = tests.get(name), corrected.get(name, math.nan)
        verdict = BASELINE if test is None else _verdict(test, p, smaller_is_better)
        same = test is not None and list(own) == list(values[baseline])
        mean = mean_interval(own, overlap)
        summaries.append(ArmSummary(name, levels[name], own, mean, test, p, verdict, same, costs.get(name, {})))
    return summaries


def _verdict(test: PairedTest, p: float, smaller_is_better: bool) -> str:
    if math.isnan(p):
        return NOT_TESTED
    if p >= ALPHA:
        return NO_EVIDENCE
    return BETTER if (test.difference.value < 0) == smaller_is_better else WORSE


def _marginals(
    values: Mapping[str, Sequence[float]],
    levels: Mapping[str, Mapping[str, str]],
    factors: Sequence[Factor],
    smaller_is_better: bool,
    overlap: float,
) -> dict[str, list[ArmSummary]]:
    """Average each factor's levels over the other factors, seed by seed, where all combinations were run."""
    combinations = math.prod(len(factor.levels) for factor in factors)
    if len(factors) < 2 or len(values) < combinations:
        return {}
    marginals = {}
    for factor in factors:
        averaged = _average(values, levels, factor)
        names = {level: {factor.name: level} for level in averaged}
        marginals[factor.name] = _compare(averaged, names, factor.baseline, smaller_is_better, overlap, {})
    return marginals


def _average(
    values: Mapping[str, Sequence[float]], levels: Mapping[str, Mapping[str, str]], factor: Factor
) -> dict[str, list[float]]:
    """Average each level over the other factors, for each seed over those combinations that all levels have.

    A level that failed throughout takes no others down with it.
    """
    table: dict[str, dict[tuple[str, ...], Sequence[float]]] = {factor.baseline: {}}
    for name, own in values.items():
        context = tuple(level for other, level in levels[name].items() if other != factor.name)
        table.setdefault(levels[name][factor.name], {})[context] = own
    alive = [
        level for level, row in table.items() if any(math.isfinite(value) for own in row.values() for value in own)
    ]
    averaged: dict[str, list[float]] = {level: [] for level in table}
    for seed in range(len(next(iter(values.values())))):
        contexts = [
            context for context in table[factor.baseline] if all(math.isfinite(table[a][context][seed]) for a in alive)
        ]
        for level, row in table.items():
            averaged[level].append(_mean([row[context][seed] for context in contexts]))
    return averaged
