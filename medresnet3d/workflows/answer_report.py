"""The report of a run of inference: cards of cases, one page each where there are several, and one page over all."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medresnet3d.reports import (
    CaseCard,
    Cases,
    Report,
    classification_card,
    failed_card,
    inference_report,
    regression_card,
    segmentation_card,
    write_report,
)
from medresnet3d.reports.attention import class_map
from medresnet3d.workflows.answer_log import flatten
from medresnet3d.workflows.prediction import Prediction
from medresnet3d.workflows.predictor import Predictor

MAX_CARDS = 24
"""Cases shown with pictures in the report over all; further ones are in its table and have their own pages."""
MAX_ERROR = 90
_TECHNICAL = ("bundle", "version", "weights", "path", "files")


class AnswerReport:
    """Collects the cards of a run and writes its report.

    Args:
        predictor: what answers.
        output: folder for ``report.html`` and ``cases/``.
        several: whether to give every case a page of its own in ``cases/``.
    """

    def __init__(self, predictor: Predictor, output: Path, several: bool) -> None:
        self.predictor = predictor
        self.output = output
        self.several = several
        self.cards: list[CaseCard] = []
        self.wants_input = predictor.task != "segmentation"

    def add(self, prediction: Prediction) -> None:
        """Add an answered case."""
        self._add(prediction.case, self._card(prediction))

    def add_failed(self, case: str, error: str) -> None:
        """Add a case without an answer."""
        self._add(case, failed_card(case, error))

    def write(self, rows: Sequence[Mapping[str, Any]], seconds: float) -> Path:
        """Write ``report.html`` over all cases.

        Args:
            rows: those of ``predictions.jsonl``.
            seconds: time of the run.
        """
        hidden = len(rows) - len(self.cards)
        notes = [f"Pictures of the first {MAX_CARDS} cases are below; all have a page in cases/."] if hidden else []
        return inference_report(
            self.output,
            what={
                "bundle": self.predictor.bundle_name,
                "version": self.predictor.metadata.get("version", ""),
                "weights": self.predictor.weights_hash,
                "device": str(self.predictor.device),
                "time": f"{seconds:.1f} s",
            },
            cards=self.cards,
            results=[_short(row) for row in rows],
            inputs=[{"case": row["case"], "path": row["path"]} for row in rows],
            warnings=notes,
            subtitle=str(self.predictor.metadata.get("description", "")),
        )

    def _add(self, case: str, card: CaseCard) -> None:
        if self.several:
            subtitle = f"{self.predictor.bundle_name} {self.predictor.metadata.get('version', '')}".strip()
            write_report(Report(case, subtitle, [Cases([card])]), self.output / "cases" / f"{case}.html")
        if len(self.cards) < MAX_CARDS:
            self.cards.append(card)

    def _card(self, prediction: Prediction) -> CaseCard:
        facts = {"patient": prediction.patient} if prediction.patient else {}
        rows: dict[str, Any] = {**facts, "time": f"{prediction.seconds:.1f} s"}
        if prediction.pred is not None and prediction.volume is not None:
            return segmentation_card(
                prediction.case,
                prediction.volume.array,
                prediction.pred,
                affine=prediction.affine,
                labels=prediction.labels,
                rows=rows,
                warnings=prediction.warnings,
            )
        seen = prediction.input_tensor
        pixels = None if seen is None else np.asarray(seen.as_tensor()[0].cpu())
        affine = None if seen is None else np.asarray(seen.affine)
        if prediction.value is not None:
            return regression_card(
                prediction.case, pixels, prediction.value, affine=affine, rows=rows, warnings=prediction.warnings
            )
        return classification_card(
            prediction.case,
            pixels,
            list(prediction.probabilities.values()),
            list(prediction.probabilities),
            affine=affine,
            heat=self._heat(prediction),
            position=prediction.position,
            rows=rows,
            warnings=prediction.warnings,
        )

    def _heat(self, prediction: Prediction) -> Any:
        """Where the network looked for the class it chose."""
        if prediction.input_tensor is None or prediction.label is None:
            return None
        image = prediction.input_tensor.as_tensor().unsqueeze(0).to(self.predictor.device)
        target = list(prediction.probabilities).index(prediction.label)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Full backward hook")  # the input itself needs no gradient
            return class_map(self.predictor.network, image, target)


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    """Give a row for the report's table, without what the page says elsewhere."""
    flat = {key: value for key, value in flatten(row).items() if key not in _TECHNICAL}
    error = str(flat.pop("error", ""))
    return {**flat, "error": error if len(error) <= MAX_ERROR else f"{error[:MAX_ERROR]} …"}
