"""How well label maps agree with the truth: per case and structure, and over patients with intervals."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice
from numpy.typing import ArrayLike, NDArray

from medresnet3d.errors import DataError
from medresnet3d.metrics.bootstrap import Weights, bootstrap_intervals, ratio
from medresnet3d.metrics.estimate import Estimate

METRICS = ("dice", "hd95_mm", "avd_percent", "surface_dice", "volume_difference_ml", "volume_difference_percent")
PIXEL_METRICS = ("jaccard", "accuracy", "sensitivity", "specificity")
"""Figures of pictures besides, which are over their pixels."""
MEAN = "mean"
_MARGIN = 2


def case_metrics(
    pred: ArrayLike | torch.Tensor,
    truth: ArrayLike | torch.Tensor,
    spacing: Sequence[float],
    labels: Mapping[int, str] | Sequence[str],
    *,
    tolerance_mm: float = 1.0,
    case: str = "",
    patient: str = "",
    pixels: bool = False,
) -> list[dict[str, Any]]:
    """Compare one label map with the truth, structure by structure.

    Dice, 95th percentile of the symmetric Hausdorff distance in mm, surface Dice (share of both surfaces within the
    tolerance; Nikolov et al., 2021) from MONAI, the volume difference (prediction minus truth), and its absolute value
    as a percentage of the true volume, the AVD of MRBrainS (Mendrik et al., 2015), whose mean over cases does not let
    too large and too small answers cancel out.

    Args:
        pred: label map (i, j, k), optionally with a leading channel of length 1.
        truth: true label map of the same shape.
        spacing: voxel edge lengths in mm along i, j, k.
        labels: names by label number or in order; label 0 is background and left out.
        tolerance_mm: tolerance of the surface Dice, mm.
        case: name of the case, copied into the rows.
        patient: patient of the case, copied into the rows.
        pixels: add :data:`PIXEL_METRICS`.

    Returns:
        One row a structure: case, patient, label, structure, dice, hd95_mm, surface_dice, volume_ml, truth_volume_ml,
        volume_difference_ml, volume_difference_percent, avd_percent, note. A structure that neither map has is NaN
        throughout and not counted ("absent in both"); one that only the truth has ("missed"), or only the prediction
        ("not in the truth"), has Dice and surface Dice 0 and no distance.

    Raises:
        DataError: if the shapes differ or the spacing does not fit.
    """
    predicted, reference = _array(pred), _array(truth)
    if predicted.shape != reference.shape:
        raise DataError(f"prediction {predicted.shape} and truth {reference.shape} differ in shape; use one grid.")
    if len(spacing) != predicted.ndim or min(spacing) <= 0:
        raise DataError(f"spacing {tuple(spacing)} does not fit a map with {predicted.ndim} axes.")
    names = labels if isinstance(labels, Mapping) else dict(enumerate(labels))
    rows = []
    for number, name in sorted((int(number), name) for number, name in names.items()):
        if number == 0:
            continue
        figures = _structure(predicted == number, reference == number, [float(s) for s in spacing], tolerance_mm)
        if pixels:
            figures |= pixel_figures(predicted == number, reference == number)
        rows.append({"case": case, "patient": patient, "label": number, "structure": name, **figures})
    return rows


def pixel_figures(pred: NDArray[np.bool_], truth: NDArray[np.bool_]) -> dict[str, float]:
    """Compute :data:`PIXEL_METRICS` of one structure in one picture, NaN where they are undefined.

    Args:
        pred: mask of what was found.
        truth: mask of what is there, of the same shape.
    """
    both, either, there = (int(mask.sum()) for mask in (pred & truth, pred | truth, truth))
    elsewhere = truth.size - there
    return {
        "jaccard": both / either if either else np.nan,
        "accuracy": float((pred == truth).mean()),
        "sensitivity": both / there if there else np.nan,
        "specificity": (truth.size - either) / elsewhere if elsewhere else np.nan,
    }


def _array(labels: ArrayLike | torch.Tensor) -> NDArray[Any]:
    array = labels.detach().cpu().numpy() if isinstance(labels, torch.Tensor) else np.asarray(labels)
    return array[0] if array.ndim == 4 and array.shape[0] == 1 else array


def _structure(
    pred: NDArray[np.bool_], truth: NDArray[np.bool_], spacing: list[float], tolerance_mm: float
) -> dict[str, Any]:
    voxel_ml = float(np.prod(spacing)) / 1000.0
    volume, true_volume = float(pred.sum()) * voxel_ml, float(truth.sum()) * voxel_ml
    difference = volume - true_volume
    figures: dict[str, Any] = {"dice": 0.0, "hd95_mm": np.nan, "surface_dice": 0.0}
    note = ""
    if not pred.any() and not truth.any():
        figures |= {"dice": np.nan, "surface_dice": np.nan}
        difference, note = np.nan, "absent in both"
    elif not pred.any():
        note = "missed"
    elif not truth.any():
        note = "not in the truth"
    else:
        figures = _surfaces(pred, truth, spacing, tolerance_mm)
    percent = 100.0 * difference / true_volume if true_volume else np.nan
    return {
        **figures,
        "volume_ml": volume,
        "truth_volume_ml": true_volume,
        "volume_difference_ml": difference,
        "volume_difference_percent": percent,
        "avd_percent": abs(percent),
        "note": note,
    }


def _surfaces(
    pred: NDArray[np.bool_], truth: NDArray[np.bool_], spacing: list[float], tolerance_mm: float
) -> dict[str, float]:
    box = _common_box(pred | truth)
    one = torch.as_tensor(np.ascontiguousarray(pred[box]), dtype=torch.float32)[None, None]
    two = torch.as_tensor(np.ascontiguousarray(truth[box]), dtype=torch.float32)[None, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hausdorff = compute_hausdorff_distance(one, two, include_background=True, percentile=95, spacing=spacing)
        surface = compute_surface_dice(one, two, [tolerance_mm], include_background=True, spacing=spacing)
    dice = compute_dice(one, two, include_background=True)
    return {"dice": float(dice), "hd95_mm": float(hausdorff), "surface_dice": float(surface)}


def _common_box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Give the smallest box around the mask with a margin, so that distances are computed on little."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        filled = np.flatnonzero(mask.any(axis=others))
        box.append(slice(max(0, int(filled[0]) - _MARGIN), int(filled[-1]) + 1 + _MARGIN))
    return tuple(box)


def segmentation_summary(
    rows: Sequence[Mapping[str, Any]], n_boot: int = 1000, seed: int = 0
) -> dict[str, dict[str, Estimate]]:
    """Average the rows of all cases for each structure, with 95% intervals resampled by patient.

    Args:
        rows: rows of :func:`case_metrics` of all cases; an empty ``patient`` takes the case for a patient of its own.
        n_boot: number of resamples.
        seed: seed of the resamples.

    Returns:
        Estimates by structure and metric; with several structures also :data:`MEAN`, the mean over the structures.
        Undefined rows are left out of the means; :func:`summary_notes` says how many there are.

    Raises:
        DataError: if there are no rows.
    """
    if not rows:
        raise DataError("there is no case to summarise.")
    structures = list(dict.fromkeys(str(row["structure"]) for row in rows))
    cases = list(dict.fromkeys(str(row["case"]) for row in rows))
    owner = {str(row["case"]): row.get("patient") or str(row["case"]) for row in rows}
    metrics = (*METRICS, *(name for name in PIXEL_METRICS if name in rows[0]))
    table = np.full((len(structures), len(metrics), len(cases)), np.nan)
    for row in rows:
        table[structures.index(str(row["structure"])), :, cases.index(str(row["case"]))] = [row[m] for m in metrics]
    keys = [(structure, metric) for structure in structures for metric in metrics]
    if len(structures) > 1:
        keys += [(MEAN, metric) for metric in metrics]

    def statistic(weights: Weights) -> dict[str, NDArray[np.float64]]:
        known = np.isfinite(table)
        sums = np.einsum("bn,smn->smb", weights, np.where(known, table, 0.0))
        means = ratio(sums, np.einsum("bn,smn->smb", weights, known.astype(np.float64)))
        flat = [*means.reshape(-1, len(weights)), *(means.mean(axis=0) if len(structures) > 1 else ())]
        return {_join(key): values for key, values in zip(keys, flat, strict=True)}

    whole = {name: float(value[0]) for name, value in statistic(np.ones((1, len(cases)))).items()}
    people: list[Hashable] = [owner[case] for case in cases]
    found = bootstrap_intervals(whole, statistic, people, n_boot, seed)
    summary: dict[str, dict[str, Estimate]] = {}
    for structure, metric in keys:
        summary.setdefault(structure, {})[metric] = found[_join((structure, metric))]
    return summary


def _join(key: tuple[str, str]) -> str:
    return "\n".join(key)


def summary_notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say in sentences how often a structure was missed, invented or absent, for the reader of a summary.

    Args:
        rows: rows of :func:`case_metrics` of all cases.
    """
    meanings = {
        "missed": "missed in {n} of {of} cases (Dice 0, no distance)",
        "not in the truth": "found in {n} of {of} cases where there is none (Dice 0, no distance)",
        "absent in both": "absent in {n} of {of} cases, which are not counted",
    }
    notes = []
    for structure in dict.fromkeys(row["structure"] for row in rows):
        own = [row for row in rows if row["structure"] == structure]
        for note, sentence in meanings.items():
            count = sum(row["note"] == note for row in own)
            if count:
                notes.append(f"{structure}: {sentence.format(n=count, of=len(own))}.")
    return notes
