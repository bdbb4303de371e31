"""The ROC curve of many weightings of the same cases at once: its area, and its height at a specificity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medresnet3d.metrics.bootstrap import Weights, ratio

Array = NDArray[np.float64]


def weighted_auc(weights: Weights, truth: NDArray[np.bool_], score: Array) -> Array:
    """Compute the area under the ROC curve for many weightings: the share of pairs in the right order, ties half.

    Args:
        weights: how often each case counts, (B, N).
        truth: whether each case is positive, (N,).
        score: score of each case, (N,).

    Returns:
        Areas (B,), NaN where a weighting holds one class only.
    """
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0])
    positive = np.add.reduceat((weights * truth)[:, order], starts, axis=1)
    negative = np.add.reduceat((weights * ~truth)[:, order], starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative
    pairs = (positive * (below + 0.5 * negative)).sum(axis=1)
    return ratio(pairs, positive.sum(axis=1) * negative.sum(axis=1))


def weighted_sensitivity(weights: Weights, truth: NDArray[np.bool_], score: Array, specificity: float) -> Array:
    """Compute the sensitivity at a specificity for many weightings.

    The cut is the lowest score at which at least ``specificity`` of the negative cases are at or below it; positive
    cases above it are found.

    Args:
        weights: how often each case counts, (B, N).
        truth: whether each case is positive, (N,).
        score: score of each case, (N,).
        specificity: the least share of negative cases that must pass.

    Returns:
        Sensitivities (B,), NaN where a weighting holds one class only.
    """
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0])
    healthy, ill = (
        np.cumsum(np.add.reduceat((weights * side)[:, order], starts, axis=1), axis=1) for side in (~truth, truth)
    )
    passed = ratio(healthy, np.broadcast_to(healthy[:, -1:], healthy.shape))
    cut = np.argmax(passed >= specificity - 1e-12, axis=1)
    missed = np.take_along_axis(ill, cut[:, None], axis=1)[:, 0]
    return np.where(healthy[:, -1] > 0, 1 - ratio(missed, ill[:, -1]), np.nan)
