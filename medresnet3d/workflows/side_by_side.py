"""Other trainings on the same cases as the one that is evaluated: their figures, and the difference with its interval.

What a bundle is compared with may be its own: ``train.json`` names ``rivals``, the same training with other values of
some ids, and ``train`` makes them all (:func:`medresnet3d.workflows.train.train`). Or it is any run or bundle that the
user names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data.manifest import Manifest
from medresnet3d.errors import DataError
from medresnet3d.metrics import Estimate
from medresnet3d.metrics.bootstrap import paired_intervals
from medresnet3d.progress import track
from medresnet3d.reports.blocks import Block, Heading, Text
from medresnet3d.reports.builders import METRIC_NAMES, records_table
from medresnet3d.workflows.evaluation_data import past_patients, past_warnings
from medresnet3d.workflows.label_matching import match_to_bundle
from medresnet3d.workflows.predictor import Predictor
from medresnet3d.workflows.run_folder import CONFIG, ENVIRONMENT, RIVALS, own_name, read_json
from medresnet3d.workflows.scoring import ClassificationScorer, Scorer, scorer_for

FIGURES = {
    "classification": ("auc", "balanced_accuracy"),
    "regression": ("mae", "r"),
    "segmentation": ("dice",),
    "detection": ("cpm", "sensitivity"),
}
"""What of each task stands in the table; the differences are in the first."""

_ABOUT = (
    "Differences are to {own} in {figure}, with 95% intervals over the patients. One training of each says how these "
    "weights compare, not how the methods would in other trainings; `medresnet3d compare` with several seeds does."
)


@dataclass(frozen=True)
class Entrant:
    """One line of the comparison.

    Args:
        name: of the training.
        figures: estimates by name; empty where nothing could be answered.
        difference: in the first figure, to the training that is evaluated; ``None`` for that itself.
        budget: what its training spent, by name.
        failed: number of cases without an answer.
    """

    name: str
    figures: Mapping[str, Estimate]
    difference: Estimate | None = None
    budget: Mapping[str, Any] = field(default_factory=dict)
    failed: int = 0

    def record(self) -> dict[str, Any]:
        """One row of a table: name, figures, difference, budget."""
        shown = {METRIC_NAMES.get(name, name.replace("_", " ")): str(value) for name, value in self.figures.items()}
        difference = {"difference": "" if self.difference is None else str(self.difference)}
        failed = {"no answer": self.failed} if self.failed else {}
        return {"training": self.name, **shown, **difference, **self.budget, **failed}


@dataclass(frozen=True)
class SideBySide:
    """A training and those that it is compared with, on the same cases.

    Args:
        entrants: the evaluated one first.
        figure: what differences are in.
        warnings: what the reader must know.
    """

    entrants: Sequence[Entrant]
    figure: str
    warnings: Sequence[str] = ()

    @property
    def about(self) -> str:
        """How to read it."""
        return _ABOUT.format(own=self.entrants[0].name, figure=METRIC_NAMES.get(self.figure, self.figure))

    def blocks(self) -> list[Block]:
        """Give the part of a report."""
        return [
            Heading("Side by side", "Trained in other ways, measured on the same cases"),
            records_table([entrant.record() for entrant in self.entrants]),
            Text(self.about),
        ]

    def lines(self) -> list[str]:
        """Give the table as text, columns under each other."""
        records = [entrant.record() for entrant in self.entrants]
        columns = list(dict.fromkeys(key for record in records for key in record))
        rows = [columns, *([str(record.get(column, "")) for column in columns] for record in records)]
        widths = [max(len(row[n]) for row in rows) for n in range(len(columns))]
        return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]

    def as_dict(self) -> dict[str, Any]:
        """Give plain JSON data."""
        return {
            "figure": self.figure,
            "entrants": [
                {
                    "name": one.name,
                    "metrics": {name: value.as_dict() for name, value in one.figures.items()},
                    "difference": None if one.difference is None else one.difference.as_dict(),
                    "budget": dict(one.budget),
                    "failed": one.failed,
                }
                for one in self.entrants
            ],
        }


def find_rivals(bundle_or_run: Path, against: Iterable[str | Path] = ()) -> dict[str, Path]:
    """Find what to compare a run with, by name.

    Args:
        bundle_or_run: a RUN folder, or the bundle in it; its own rivals are found. Anything else has none.
        against: further runs or bundles.
    """
    run = _run_of(bundle_or_run)
    own = {} if run is None else {folder.name: folder for folder in sorted((run / RIVALS).glob("*/"))}
    ready = {name: folder for name, folder in own.items() if (folder / "bundle").is_dir()}
    for one in map(Path, against):
        name = one.resolve().name
        ready[str(one) if name in ready else name] = one
    return ready


def _run_of(bundle_or_run: Path) -> Path | None:
    return next((one for one in (bundle_or_run, bundle_or_run.parent) if (one / ENVIRONMENT).is_file()), None)


def _name_and_budget(bundle_or_run: Path) -> tuple[str, dict[str, Any]]:
    """What a run is called and what its training spent."""
    run = _run_of(bundle_or_run)
    if run is None:
        return find_bundle(bundle_or_run).name, {}
    environment = read_json(run / ENVIRONMENT)
    budget = environment.get("budget") or {"training_steps": environment.get("result", {}).get("iteration", "")}
    config = read_json(run / CONFIG) if (run / CONFIG).is_file() else {}
    return own_name(config) or run.name, {name.replace("_", " "): value for name, value in budget.items()}


def compare_side_by_side(
    evaluated: Path,
    scorer: Scorer,
    rivals: Mapping[str, Path],
    chosen: Sequence[Mapping[str, Any]],
    manifest: Manifest,
    *,
    device: str,
    trust: bool,
    resampling: tuple[int, int],
) -> SideBySide:
    """Let other trainings answer the same cases, and compare.

    Args:
        evaluated: the run or bundle that is evaluated.
        scorer: has its answers.
        rivals: runs or bundles by name.
        chosen: the cases, as items.
        manifest: the data.
        device: where to compute.
        trust: accept bundles from elsewhere.
        resampling: number of resamples, and their seed.

    Raises:
        BundleError, WeightsError, UntrustedBundleError: if one of them cannot be used.
        DataError: if one of them is for another task or has other classes.
    """
    names = _figure_names(scorer, manifest.task)
    name, budget = _name_and_budget(evaluated)
    entrants = [Entrant(name, _figures(scorer, names, resampling), None, budget)]
    warnings = []
    for label, path in rivals.items():
        other, failed, notes = _answers(path, label, chosen, manifest, device, trust)
        difference = _difference(scorer, other, names[0], resampling)
        entrants.append(
            Entrant(label, _figures(other, names, resampling), difference, _name_and_budget(path)[1], failed)
        )
        seen = past_warnings(chosen, past_patients(path), "")
        warnings += [f"{label}: {one}" for one in notes]
        warnings += [f"{label}: {one}" for one in seen if "in the training" in one]
    return SideBySide(entrants, names[0], warnings)


def _figure_names(scorer: Scorer, task: str) -> tuple[str, ...]:
    """What stands in the table, differences in the first: for a screening, whether cases are found."""
    screened = isinstance(scorer, ClassificationScorer) and scorer.screening_grade is not None
    return ("screening_auc", *FIGURES[task]) if screened else FIGURES[task]


def _answers(
    path: Path, name: str, chosen: Sequence[Mapping[str, Any]], manifest: Manifest, device: str, trust: bool
) -> tuple[Scorer, int, Sequence[str]]:
    with Predictor(path, device, trust) as predictor:
        if predictor.task != manifest.task:
            raise DataError(f"{name} is for {predictor.task}, so it cannot be compared on data for {manifest.task}.")
        match = match_to_bundle(manifest, predictor)
        scorer, failed = scorer_for(predictor, match), 0
        for item in track(chosen, name):
            try:
                scorer.add(item, predictor(item))
            except Exception:  # whatever one case provokes, the others get their answers
                failed += 1
    return scorer, failed, match.notes


def _figures(scorer: Scorer, names: Sequence[str], resampling: tuple[int, int]) -> dict[str, Estimate]:
    if not scorer.rows:
        return {}
    found = scorer.metrics(*resampling)
    structures = [value for value in found.values() if isinstance(value, Mapping)]
    # of a segmentation the mean over the structures, which stands last
    figures = structures[-1] if structures else found
    return {name: figures[name] for name in names if name in figures}


def _difference(own: Scorer, other: Scorer, figure: str, resampling: tuple[int, int]) -> Estimate | None:
    patients = {row["case"]: row["patient"] or row["case"] for row in own.rows}
    answered = {row["case"] for row in other.rows}
    cases = [case for case in patients if case in answered]
    if not cases:
        return None
    found = paired_intervals(
        own.statistic(cases), other.statistic(cases), [patients[case] for case in cases], *resampling
    )
    return found[figure]
