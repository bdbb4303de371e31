"""How good a bundle is on data with known truth: figures with intervals over patients, tables and a report."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medresnet3d.bundle.registry import find_bundle
from medresnet3d.bundle.trust import require_trust
from medresnet3d.data.manifest import Manifest, load_manifest
from medresnet3d.errors import DataError, ExitCode, MedResNetError
from medresnet3d.io import Volume, atomic_write_text, load
from medresnet3d.metrics import Estimate
from medresnet3d.progress import track
from medresnet3d.reports import DISCLAIMER, CaseCard, evaluation_report, failed_card
from medresnet3d.workflows.answer_log import AnswerLog
from medresnet3d.workflows.evaluation_data import choose_items, past_patients, past_warnings, patients_of_weights
from medresnet3d.workflows.label_matching import match_to_bundle
from medresnet3d.workflows.prediction import Prediction
from medresnet3d.workflows.predictor import Predictor
from medresnet3d.workflows.scoring import Scorer, scorer_for
from medresnet3d.workflows.side_by_side import SideBySide, compare_side_by_side, find_rivals

SHOWN = 4
"""Number of worst and of best cases shown with pictures."""

_SHOW_SCAN = ("segmentation", "detection")
"""Tasks whose cards show the scan; the others show what the network saw."""

PathLike = str | os.PathLike[str]


class Evaluation(dict[str, Any]):
    """Figures of merit by name, each an :class:`~medresnet3d.metrics.Estimate`; by structure and name for segmentation.

    Attributes:
        output: folder with ``metrics.json``, ``cases.csv``, ``predictions.csv`` and ``report.html``.
        section: which part of the manifest was evaluated.
        cases: number of cases with an answer.
        patients: number of patients among them.
        errors: why other cases have no answer, by case.
        warnings: what the reader must know.
        report: the HTML report.
        side_by_side: other trainings on the same cases; ``None`` where there are none.
    """

    def __init__(self, metrics: Mapping[str, Any], output: Path, section: str) -> None:
        super().__init__(metrics)
        self.output = output
        self.section = section
        self.cases = 0
        self.patients = 0
        self.errors: dict[str, str] = {}
        self.warnings: list[str] = []
        self.report = output / "report.html"
        self.side_by_side: SideBySide | None = None

    @property
    def size(self) -> str:
        """Number of cases and patients in words."""
        return f"{_count(self.cases, 'case')} of {_count(self.patients, 'patient')}"

    @property
    def exit_code(self) -> ExitCode:
        """0 if every case has an answer, 1 if some have, 3 if none has."""
        if not self.errors:
            return ExitCode.OK
        return ExitCode.SOME_FAILED if self.cases else ExitCode.NOTHING_DONE


def evaluate(
    bundle_or_run: PathLike,
    data: PathLike | Manifest,
    output: PathLike,
    *,
    section: str = "auto",
    device: str = "auto",
    set: Mapping[str, Any] | Iterable[str] = (),
    trust: bool = False,
    against: Iterable[PathLike] = (),
    n_boot: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Run a bundle on data with known truth and say how good its answers are.

    The bundle answers every case as ``infer`` does, in the input's own geometry, and is compared with the truth there.
    Intervals are 95% percentile bootstrap intervals in which patients are drawn. A case that fails becomes a row with
    an error and stops nothing. Patients that were in the training of the weights, where that is recorded, are counted
    in a warning.

    Args:
        bundle_or_run: a name from ``bundle list``, a bundle folder or a RUN folder of ``train``.
        data: manifest of the data.
        output: folder for ``metrics.json``, ``cases.csv``, ``predictions.csv`` (and ``.jsonl``) and ``report.html``;
            of a detection also ``findings.csv``, ``froc.csv`` and the tables that LUNA16's own script reads.
        section: ``"test"``, ``"validation"``, ``"training"``, ``"all"``, or ``"auto"``: the test section; without one
            the validation section (of a RUN also the validation patients that it recorded); without either everything.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        set: values of the bundle's configuration ids, as a mapping or ``id=value`` texts.
        trust: accept a bundle from elsewhere although the inspection found something.
        against: runs or bundles that answer the same cases as they are (``set`` is not for them), to be compared with
            this one; the rivals that a RUN trained itself are there anyway.
        n_boot: number of bootstrap resamples.
        seed: seed of the resamples.

    Returns:
        The figures by name, with what was evaluated as attributes.

    Raises:
        WeightsError: if the bundle has no trained weights.
        BundleError, UntrustedBundleError, ConfigError: if the bundle cannot be used.
        DataError: if the manifest is broken or does not fit the bundle.
    """
    started = time.perf_counter()
    require_trust(find_bundle(bundle_or_run), trust)
    manifest = load_manifest(data if isinstance(data, Manifest) else Path(data))
    past = past_patients(Path(bundle_or_run))
    chosen, name, notes = choose_items(manifest, section, past)
    predictor = Predictor(bundle_or_run, device, trust, set=set)
    if predictor.task != manifest.task:
        raise DataError(
            f"{manifest.where}: its task is {manifest.task}, but {predictor.bundle_name} is for {predictor.task}."
        )
    past = past or patients_of_weights(predictor)
    match = match_to_bundle(manifest, predictor)
    notes += match.notes
    rivals = find_rivals(Path(bundle_or_run), map(Path, against))
    run = _Run(predictor, scorer_for(predictor, match), Path(output))
    for item in track(chosen, "evaluation"):
        run.answer(item)
    notes += past_warnings(chosen, past, name)
    side = None
    if rivals and run.answered:
        own, resampling = Path(bundle_or_run), (n_boot, seed)
        side = compare_side_by_side(
            own, run.scorer, rivals, chosen, manifest, device=str(predictor.device), trust=trust, resampling=resampling
        )
        notes += side.warnings
    return run.finish(manifest, name, chosen, notes, side, (n_boot, seed), time.perf_counter() - started)


@dataclass
class _Shown:
    """A case that may be shown with pictures."""

    score: float
    item: Mapping[str, Any]
    prediction: Prediction


@dataclass
class _Run:
    """One evaluation: keeps rows of all cases, and only of the best and worst their images."""

    predictor: Predictor
    scorer: Scorer
    output: Path
    shown: list[_Shown] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    answered: list[Mapping[str, Any]] = field(default_factory=list)
    volume: tuple[str, Volume] | None = None

    def __post_init__(self) -> None:
        self.log = AnswerLog(
            self.output,
            {
                "bundle": self.predictor.bundle_name,
                "version": str(self.predictor.metadata.get("version", "")),
                "weights": self.predictor.weights_hash,
            },
        )

    def answer(self, item: dict[str, Any]) -> None:
        """Answer one case and compare it with the truth; whatever it provokes, the others get their answers."""
        try:
            prediction = self.predictor(self._with_volume(item), keep_input=self.predictor.task not in _SHOW_SCAN)
            score = self.scorer.add(item, prediction)
        except Exception as error:
            message = str(error) if isinstance(error, MedResNetError) else f"unexpected {type(error).__name__}: {error}"
            self.errors[item["case"]] = message
            self.log.add({"case": item["case"], "path": str(item["path"])}, [], message)
            return
        self.log.add(prediction.answer(), [])
        self.answered.append(item)
        self._remember(_Shown(score, item, prediction))

    def _with_volume(self, item: dict[str, Any]) -> dict[str, Any]:
        """Read a scan once for neighbouring cases that are points in it."""
        path = item["image"]
        if not isinstance(path, str) or "position" not in item:
            return item
        if self.volume is None or self.volume[0] != path:
            self.volume = (path, load(path))
        return {**item, "image": self.volume[1]}

    def _remember(self, case: _Shown) -> None:
        if math.isnan(case.score):
            return
        self.shown = sorted([*self.shown, case], key=lambda one: one.score)
        if len(self.shown) > 2 * SHOWN:
            self.shown = [*self.shown[:SHOWN], *self.shown[-SHOWN:]]

    def finish(
        self,
        manifest: Manifest,
        section: str,
        chosen: Sequence[Mapping[str, Any]],
        notes: list[str],
        side: SideBySide | None,
        resampling: tuple[int, int],
        seconds: float,
    ) -> Evaluation:
        """Compute the figures over all cases and write everything."""
        result = Evaluation(self.scorer.metrics(*resampling) if self.answered else {}, self.output, section)
        result.cases, result.errors = len(self.answered), self.errors
        result.side_by_side = side
        result.patients = len({str(item.get("patient") or item["case"]) for item in self.answered})
        result.warnings = [*notes, *(self.scorer.notes() if self.answered else [])]
        if self.errors:
            result.warnings.append(
                f"{len(self.errors)} of {len(chosen)} cases have no answer and are not in the figures."
            )
        what = self._what(manifest, result, seconds)
        method = (
            f"95% intervals: percentile bootstrap, {resampling[0]} resamples of {_count(result.patients, 'patient')}"
        )
        self.log.finish()
        _write_csv(self.output / "cases.csv", [*self.scorer.rows, *_failed_rows(self.errors)])
        content = {**what, "interval": f"{method}, seed {resampling[1]}", "metrics": _plain(result)}
        content |= {"warnings": result.warnings, "errors": self.errors, "disclaimer": DISCLAIMER}
        content |= {} if side is None else {"side_by_side": side.as_dict()}
        atomic_write_text(self.output / "metrics.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        for name, table in (self.scorer.files() if self.answered else {}).items():
            atomic_write_text(self.output / name, table)
        worst, best = self._cards()
        evaluation_report(
            self.output,
            what=what,
            metrics=result,
            comparison=[] if side is None else side.blocks(),
            cases=[*self.scorer.rows, *_failed_rows(self.errors)],
            figures=self.scorer.figures() if self.answered else [],
            worst=worst,
            best=best,
            failed=[failed_card(case, error) for case, error in self.errors.items()],
            inputs=[{"case": item["case"], "path": item["path"]} for item in chosen],
            warnings=result.warnings,
            subtitle=f"{result.size}, section {section} of {manifest.name}",
            method=f"{method}.",
        )
        return result

    def _what(self, manifest: Manifest, result: Evaluation, seconds: float) -> dict[str, Any]:
        return {
            "bundle": self.predictor.bundle_name,
            "version": str(self.predictor.metadata.get("version", "")),
            "weights": self.predictor.weights_hash,
            "task": self.predictor.task,
            "data": manifest.where,
            "data hash": manifest.content_hash(),
            "section": result.section,
            "cases": result.cases,
            "patients": result.patients,
            "device": str(self.predictor.device),
            "seconds": round(seconds, 1),
        }

    def _cards(self) -> tuple[list[CaseCard], list[CaseCard]]:
        """Draw the worst and the best cases, no case twice."""
        half = min(SHOWN, (len(self.shown) + 1) // 2)
        worst, best = self.shown[:half], self.shown[half:][::-1][:SHOWN]
        draw = self.scorer.card
        return [draw(one.item, one.prediction) for one in worst], [draw(one.item, one.prediction) for one in best]


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _failed_rows(errors: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"case": case, "error": error} for case, error in errors.items()]


def _plain(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.as_dict() if isinstance(value, Estimate) else _plain(value) for name, value in metrics.items()}


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write_text(path, buffer.getvalue())
