"""Figures of merit of an estimated number, each with an interval over patients."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import pearsonr
from sklearn import metrics as sk

from medresnet3d.errors import DataError
from medresnet3d.metrics.bootstrap import Patients, Weights, bootstrap_intervals, ratio
from medresnet3d.metrics.estimate import Estimate


def regression_metrics(
    predicted: ArrayLike,
    truth: ArrayLike,
    patients: Patients | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Compute mean absolute error, correlation and explained variance with 95% intervals resampled by patient.

    Args:
        predicted: estimates (N,).
        truth: true values (N,), in the same unit.
        patients: patient of every case (N,); None takes every case for a patient of its own.
        n_boot: number of resamples.
        seed: seed of the resamples.

    Returns:
        Estimates by name: mae (in the unit of the values), r (Pearson), r2.

    Raises:
        DataError: if lengths differ, nothing is given or a value is not finite.
    """
    x, y = np.asarray(predicted, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or not x.size:
        raise DataError(f"{x.shape} estimates and {y.shape} true values do not belong together; expected (N,) each.")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError("an estimate or a true value is not a finite number.")
    people: Patients = range(len(x)) if patients is None else patients
    if len(people) != len(x):
        raise DataError(f"{len(people)} patients were given for {len(x)} cases; give one for each case.")
    varied = np.ptp(x) > 0 and np.ptp(y) > 0
    values = {
        "mae": float(sk.mean_absolute_error(y, x)),
        "r": float(pearsonr(x, y).statistic) if varied else float("nan"),
        "r2": float(sk.r2_score(y, x)) if np.ptp(y) > 0 else float("nan"),
    }
    return bootstrap_intervals(values, lambda weights: weighted_values(weights, x, y), people, n_boot, seed)


def weighted_values(
    weights: Weights, predicted: NDArray[np.float64], truth: NDArray[np.float64]
) -> Mapping[str, NDArray[np.float64]]:
    """Compute the figures for many weightings of the cases at once, NaN where one is undefined.

    Args:
        weights: how often each case counts, (B, N).
        predicted: estimates (N,).
        truth: true values (N,).
    """
    share = weights / weights.sum(axis=1, keepdims=True)
    x = predicted - (share @ predicted)[:, None]
    y = truth - (share @ truth)[:, None]
    xx, yy, xy = ((share * product).sum(axis=1) for product in (x * x, y * y, x * y))
    residual = share @ (truth - predicted) ** 2
    return {
        "mae": share @ np.abs(predicted - truth),
        "r": ratio(xy, np.sqrt(xx * yy)),
        "r2": 1.0 - ratio(residual, yy),
    }
