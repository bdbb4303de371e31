"""Comparison of answers with the truth, one class a task: rows, figures of merit, plots and cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from medresnet3d.metrics import (
    case_metrics,
    classification,
    classification_metrics,
    regression,
    regression_metrics,
    segmentation_summary,
    summary_notes,
)
from medresnet3d.metrics.bootstrap import Statistic, ratio
from medresnet3d.metrics.classification import patient_shares
from medresnet3d.reports import (
    CaseCard,
    Figure,
    agreement_plot,
    bland_altman_plot,
    class_bars,
    classification_card,
    regression_card,
    segmentation_card,
)
from medresnet3d.reports.builders import classification_figures
from medresnet3d.transforms.load import LoadVolumed
from medresnet3d.workflows.answer_scene import seen_pixels
from medresnet3d.workflows.explanation import explain
from medresnet3d.workflows.label_matching import LabelMatch
from medresnet3d.workflows.prediction import Prediction
from medresnet3d.workflows.predictor import Predictor

LEAST_FOR_SLOPE = 5
"""Cases below which a slope of the differences says nothing."""


class Scorer(Protocol):
    """What an evaluation needs to know of a task.

    Attributes:
        rows: one record a case (or case and structure), as in ``cases.csv``.
    """

    rows: list[dict[str, Any]]

    def add(self, item: Mapping[str, Any], prediction: Prediction) -> float:
        """Compare one answer with the truth and give how good it is; larger is better."""

    def metrics(self, n_boot: int, seed: int) -> dict[str, Any]:
        """Give the figures of merit over all cases with intervals."""

    def statistic(self, cases: Sequence[str]) -> Statistic:
        """Give a function from weights (B, N) of these N cases to the task's figures, for paired intervals."""

    def figures(self) -> list[Figure]:
        """Draw the plots over all cases."""

    def notes(self) -> list[str]:
        """Say what the reader must know about these figures."""

    def card(self, item: Mapping[str, Any], prediction: Prediction) -> CaseCard:
        """Show one case."""

    def files(self) -> dict[str, str]:
        """Give further tables by file name; none by default."""
        return {}


def scorer_for(predictor: Predictor, match: LabelMatch) -> Scorer:
    """Give the scorer of a bundle's task.

    Args:
        predictor: the bundle in memory.
        match: what the manifest's classes are in the bundle; unused for regression and detection.
    """
    if predictor.task == "segmentation":
        return SegmentationScorer(predictor, match)
    if predictor.task == "classification":
        return ClassificationScorer(predictor, match)
    if predictor.task == "detection":
        from medresnet3d.workflows.detection_scoring import DetectionScorer  # it is a Scorer itself

        return DetectionScorer(predictor)
    return RegressionScorer(predictor)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)


def _places(rows: Sequence[Mapping[str, Any]], cases: Sequence[str]) -> list[int]:
    """Where each of the cases is among the rows."""
    places = {row["case"]: place for place, row in enumerate(rows)}
    return [places[case] for case in cases]


class SegmentationScorer(Scorer):
    """Compares label maps: Dice, HD95, surface Dice, volumes; see :func:`medresnet3d.metrics.case_metrics`."""

    def __init__(self, predictor: Predictor, match: LabelMatch) -> None:
        self.rows: list[dict[str, Any]] = []
        self._labels = predictor.labels
        self._index = np.asarray(match.index)
        self._load = LoadVolumed("image", label_keys="label", num_classes=len(match.index))

    def add(self, item: Mapping[str, Any], prediction: Prediction) -> float:
        """Compare one label map with the truth and give its mean Dice."""
        truth = self._truth(item, prediction)
        assert prediction.volume is not None and prediction.pred is not None
        found = case_metrics(
            prediction.pred,
            truth,
            prediction.volume.spacing,
            self._labels,
            case=prediction.case,
            patient=str(item.get("patient") or ""),
            pixels=prediction.volume.source.format == "image",
        )
        self.rows += found
        return _mean_dice(found)

    def _truth(self, item: Mapping[str, Any], prediction: Prediction) -> np.ndarray:
        loaded = self._load({"image": prediction.volume, "label": item["label"]})["label"]
        return self._index[loaded.numpy()[0].astype(np.int64)]

    def metrics(self, n_boot: int, seed: int) -> dict[str, Any]:
        """Average over cases for each structure, with intervals."""
        return dict(segmentation_summary(self.rows, n_boot, seed))

    def statistic(self, cases: Sequence[str]) -> Statistic:
        """Give the mean Dice of weighted cases; a case without any structure does not count."""
        dice = np.asarray([_mean_dice([row for row in self.rows if row["case"] == case]) for case in cases])
        known = np.isfinite(dice)
        return lambda weights: {"dice": ratio(weights[:, known] @ dice[known], weights[:, known].sum(axis=1))}

    def figures(self) -> list[Figure]:
        """Draw Dice and HD95 of every case."""
        names = list(dict.fromkeys(row["structure"] for row in self.rows))
        figures = []
        for key, label in (("dice", "Dice"), ("hd95_mm", "95th percentile of the surface distance, mm")):
            values = [[row[key] for row in self.rows if row["structure"] == name] for name in names]
            if np.isfinite(np.concatenate([np.asarray(one, dtype=float) for one in values])).any():
                caption = f"{label.split(',')[0]} of every case (dots) and the mean (line)."
                figures.append(Figure(class_bars(names, values, label), caption))
        return figures

    def notes(self) -> list[str]:
        """Count structures that were missed, invented or absent."""
        return summary_notes(self.rows)

    def card(self, item: Mapping[str, Any], prediction: Prediction) -> CaseCard:
        """Show prediction and truth in three planes."""
        own = [row for row in self.rows if row["case"] == prediction.case]
        assert prediction.volume is not None
        return segmentation_card(
            prediction.case,
            prediction.volume.array,
            prediction.pred,
            affine=prediction.affine,
            labels=prediction.labels,
            truth=self._truth(item, prediction),
            rows={f"Dice, {row['structure']}": row["dice"] for row in own},
            warnings=prediction.warnings,
            badge=f"mean Dice {_mean_dice(own):.3f}",
        )


def _mean_dice(rows: Sequence[Mapping[str, Any]]) -> float:
    known = [row["dice"] for row in rows if np.isfinite(row["dice"])]
    return float(np.mean(known)) if known else float("nan")


class ClassificationScorer(Scorer):
    """Compares class probabilities; see :func:`medresnet3d.metrics.classification_metrics`.

    Attributes:
        screening_grade: the lowest grade that must be found, where the answers have a screening score
            (:class:`medresnet3d.transforms.screening.ScreeningScored`).
    """

    def __init__(self, predictor: Predictor, match: LabelMatch) -> None:
        self.rows: list[dict[str, Any]] = []
        self._predictor = predictor
        self._match = match
        self._prob: list[list[float]] = []
        self._label: list[int] = []
        self._names: list[str] = list(match.names)
        self._ordinal = bool(predictor.metadata.get("ordinal")) and not match.together
        self._by_patient = bool(predictor.metadata.get("patient_score"))
        self.screening_grade: int | None = None

    def add(self, item: Mapping[str, Any], prediction: Prediction) -> float:
        """Compare one answer with the truth and give the probability of the true class."""
        probabilities = self._match.probabilities(prediction.probabilities)
        names, values = list(probabilities), list(probabilities.values())
        truth = self._match.index[int(item["label"])]
        answer = names[int(np.argmax(values))] if self._match.together else prediction.label
        self._names = names
        if not self._match.together:
            screening = prediction.details.get("screening", {})
            self.screening_grade = screening.get("from_grade", self.screening_grade)
        self._prob.append(values)
        self._label.append(truth)
        self.rows.append(
            {
                "case": prediction.case,
                "patient": item.get("patient", ""),
                "truth": names[truth],
                "answer": answer,
                "correct": answer == names[truth],
                **{f"probability_{name}": value for name, value in probabilities.items()},
            }
        )
        return values[truth]

    def metrics(self, n_boot: int, seed: int) -> dict[str, Any]:
        """Give accuracy, AUC, ... with intervals over patients."""
        return dict(
            classification_metrics(
                self._prob,
                self._label,
                self._patients(),
                self._names,
                n_boot,
                seed,
                ordinal=self._ordinal,
                patient_score=self._by_patient,
                screening_grade=self.screening_grade,
            )
        )

    def _patients(self) -> list[Any]:
        return [row["patient"] or row["case"] for row in self.rows]

    def statistic(self, cases: Sequence[str]) -> Statistic:
        """Give accuracy, AUC, ... of weighted cases."""
        chosen = _places(self.rows, cases)
        prob, label = np.asarray(self._prob, dtype=float)[chosen], np.asarray(self._label)[chosen]
        patients = self._patients()
        share = patient_shares([patients[place] for place in chosen]) if self._by_patient else None
        further = (self._ordinal, share, self.screening_grade)
        return lambda weights: classification.weighted_values(weights, prob, label, *further)

    def figures(self) -> list[Figure]:
        """Draw confusion matrix, ROC and reliability plot."""
        return classification_figures(np.asarray(self._prob), np.asarray(self._label), self._names)

    def notes(self) -> list[str]:
        """Say when a class does not occur."""
        absent = [name for index, name in enumerate(self._names) if index not in self._label]
        if not absent:
            return []
        occur = len(self._names) - len(absent)
        outcome = "some figures are undefined" if occur == 1 else "figures that are means over classes leave them out"
        return [f"No case of {_list(absent)} is among these data, so {outcome}."]

    def card(self, item: Mapping[str, Any], prediction: Prediction) -> CaseCard:
        """Show what the network saw, its probabilities and where it looked."""
        seen = prediction.input_tensor
        probabilities = self._match.probabilities(prediction.probabilities)
        names = list(probabilities)
        pixels = affine = heat = None
        if seen is not None and prediction.label is not None:
            pixels, affine = seen_pixels(seen), np.asarray(seen.affine)
            heat = explain(self._predictor, prediction)
        return classification_card(
            prediction.case,
            pixels,
            list(probabilities.values()),
            names,
            affine=affine,
            truth=names[self._match.index[int(item["label"])]],
            heat=heat,
            position=prediction.position,
            rows={"patient": item["patient"]} if item.get("patient") else {},
            warnings=prediction.warnings,
        )


class RegressionScorer(Scorer):
    """Compares estimated numbers; see :func:`medresnet3d.metrics.regression_metrics`."""

    def __init__(self, predictor: Predictor) -> None:
        self.rows: list[dict[str, Any]] = []
        self._unit = str(predictor.metadata.get("unit", ""))

    def add(self, item: Mapping[str, Any], prediction: Prediction) -> float:
        """Compare one estimate with the truth and give minus its error."""
        assert prediction.value is not None
        error = prediction.value - float(item["label"])
        self.rows.append(
            {
                "case": prediction.case,
                "patient": item.get("patient", ""),
                "truth": float(item["label"]),
                "answer": prediction.value,
                "difference": error,
            }
        )
        return -abs(error)

    def metrics(self, n_boot: int, seed: int) -> dict[str, Any]:
        """Give mean absolute error, correlation and explained variance with intervals over patients."""
        patients = [row["patient"] or row["case"] for row in self.rows]
        answers, truths = ([row[key] for row in self.rows] for key in ("answer", "truth"))
        return dict(regression_metrics(answers, truths, patients, n_boot, seed))

    def statistic(self, cases: Sequence[str]) -> Statistic:
        """Give mean absolute error, ... of weighted cases."""
        chosen = _places(self.rows, cases)
        answers, truths = (np.asarray([row[key] for row in self.rows], float)[chosen] for key in ("answer", "truth"))
        return lambda weights: regression.weighted_values(weights, answers, truths)

    def figures(self) -> list[Figure]:
        """Draw estimates against the truth, and the differences over it."""
        answers, truths = (np.asarray([row[key] for row in self.rows]) for key in ("answer", "truth"))
        about = "Difference of every case (Bland-Altman), its mean (line) and the 95% limits of agreement (dashed)."
        return [
            Figure(agreement_plot(answers, truths, self._unit), "Estimates against the truth."),
            Figure(bland_altman_plot(answers, truths, self._unit), about),
        ]

    def notes(self) -> list[str]:
        """Say how far the estimates lean to the mean."""
        answers, truths = (np.asarray([row[key] for row in self.rows]) for key in ("answer", "truth"))
        if len(truths) < LEAST_FOR_SLOPE or np.ptp(truths) == 0:
            return []
        slope = float(np.polyfit(truths, answers - truths, 1)[0])
        unit = self._unit or "units"
        return [
            f"The difference changes by {10 * slope:+.1f} {unit} over ten {unit} of truth (0 is no lean to the mean)."
        ]

    def card(self, item: Mapping[str, Any], prediction: Prediction) -> CaseCard:
        """Show what the network saw and its estimate."""
        seen = prediction.input_tensor
        assert prediction.value is not None
        return regression_card(
            prediction.case,
            None if seen is None else np.asarray(seen.as_tensor()[0].cpu()),
            prediction.value,
            unit=self._unit,
            affine=None if seen is None else np.asarray(seen.affine),
            truth=float(item["label"]),
            warnings=prediction.warnings,
        )
