"""What the answers of ``pictures.py`` come to: figures of each arm with intervals, and what ours is ahead by."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from table import CLINICAL, PICTURES

from medresnet3d.data import items
from medresnet3d.metrics.bootstrap import bootstrap_intervals, paired_intervals, ratio
from medresnet3d.metrics.estimate import Estimate
from medresnet3d.transforms.clinical_evidence import evidence_for, fit_evidence

Array = NDArray[np.float64]
RESAMPLES = 5000


def figures(score: Array, label: NDArray[np.int64]) -> Callable[[Array], dict[str, Array]]:
    """Accuracy, balanced accuracy and quadratic kappa of weighted cases (B, N), each (B,)."""
    count = score.shape[1]
    cells = np.eye(count * count)[label * count + score.argmax(1)]
    steps = np.arange(count)
    distance = (steps[:, None] - steps) ** 2

    def weighted(weights: Array) -> dict[str, Array]:
        confusion = (weights @ cells).reshape(-1, count, count)
        hit, truth, total = np.einsum("bcc->bc", confusion), confusion.sum(2), weights.sum(1)
        expected = truth[:, :, None] * confusion.sum(1)[:, None] / total[:, None, None]
        return {
            "accuracy": ratio(hit.sum(1), total),
            "balanced_accuracy": np.nanmean(ratio(hit, truth), axis=1),
            "kappa": 1 - ratio((confusion * distance).sum((1, 2)), (expected * distance).sum((1, 2))),
        }

    return weighted


def over_all(score: Any, label: Any) -> dict[str, float]:
    """The figures of all cases alike."""
    weighted = figures(np.asarray(score), np.asarray(label))(np.ones((1, len(label))))
    return {name: float(value[0]) for name, value in weighted.items()}


def summarise(folder: Path, name: str, clinical: Sequence[str] = ()) -> dict[str, Any]:
    """Figures of each arm on the folds that it and ours have answered, and what ours is ahead by there.

    Args:
        folder: where the results of ``pictures.py`` are.
        name: of the set.
        clinical: fields of its manifest that may count beside the pictures.
    """
    answered = arms_of(folder, name, clinical)
    summary: dict[str, Any] = {}
    for arm, files in answered.items():
        measured, label, patients = pooled(list(files.values()))
        estimates = bootstrap_intervals(
            {key: float(value[0]) for key, value in measured(np.ones((1, len(label)))).items()},
            measured,
            patients,
            RESAMPLES,
        )
        summary[arm] = {key: plain_estimate(estimate) for key, estimate in estimates.items()}
        summary[arm] |= {"folds": len(files), "cases": len(label), "patients": len(set(patients))}
        summary[arm]["seconds"] = float(np.mean([file["seconds"] for file in files.values()]))
        summary[arm]["device"] = next(iter(files.values()))["device"]
        summary[arm]["each_fold"] = {fold: over_all(file["score"], file["label"]) for fold, file in files.items()}
        if arm != "ours":
            rival_of = f"ours{CLINICAL}" if arm.endswith(CLINICAL) and not arm.startswith("ours") else "ours"
            ours = pooled([answered[rival_of][fold] for fold in files])[0]
            ahead = paired_intervals(measured, ours, patients, RESAMPLES)
            summary[arm]["ours_is_ahead_by"] = {key: plain_estimate(estimate) for key, estimate in ahead.items()}
    return summary


def arms_of(folder: Path, name: str, clinical: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """What each arm has answered, by fold, on the folds that ours has answered too."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for arm in PICTURES:
        paths = sorted((folder / name).glob(f"{arm}_fold?.json"))
        files = {path.stem[-1]: json.loads(path.read_text()) for path in paths}
        found[arm] = {fold: file for fold, file in files.items() if arm == "ours" or fold in found["ours"]}
        if arm.endswith(CLINICAL) and clinical:
            for fold, file in found[arm.removesuffix(CLINICAL)].items():
                told = clinical_evidence(folder / "data" / name / f"fold{fold}.json", clinical)
                found[arm][fold] = file | {"score": weighed(file["score"], told)}
    return {arm: files for arm, files in found.items() if files}


def clinical_evidence(manifest: Path, fields: Sequence[str]) -> Array:
    """What is known beside the pictures says for each class, (n, K) of a fold's pictures, learned from the others."""
    parts = {part: items(manifest, part, validation_fraction=0.0) for part in ("training", "test")}
    classes = len(json.loads(manifest.read_text(encoding="utf-8"))["labels"])
    table = fit_evidence(parts["training"], fields, classes)
    return np.stack([evidence_for(item, table, classes) for item in parts["test"]])


def weighed(score: Any, evidence: Array) -> list[list[float]]:
    """Probabilities as :class:`medresnet3d.transforms.clinical.WeighClinicald` changes them."""
    odds = np.maximum(np.asarray(score), 1e-30) * np.exp(evidence)
    return (odds / odds.sum(1, keepdims=True)).tolist()


def pooled(files: list[dict[str, Any]]) -> tuple[Callable[[Array], dict[str, Array]], list[int], list[str]]:
    """The figures of weighted cases of several folds together, and the cases' labels and patients."""
    score = np.concatenate([file["score"] for file in files])
    label = [each for file in files for each in file["label"]]
    return figures(score, np.array(label)), label, [each for file in files for each in file["patient"]]


def plain_estimate(estimate: Estimate) -> dict[str, Any]:
    return {"mean": estimate.value, "interval": [estimate.low, estimate.high]}
