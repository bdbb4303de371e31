"""Comparing methods that were run on the same seeds: intervals of means, paired tests, correction for many tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from medresnet3d.metrics.estimate import Estimate


class PairedTest(NamedTuple):
    """Outcome of a paired comparison.

    Attributes:
        difference: mean difference with its 95% interval.
        p: two-sided p-value; NaN with fewer than two pairs.
        pairs: number of pairs.
    """

    difference: Estimate
    p: float
    pairs: int


def mean_interval(values: ArrayLike, overlap: float = 0.0) -> Estimate:
    """Give the mean of repeated runs and its 95% interval by Student's t.

    Args:
        values: one value a run (n,); NaN is left out.
        overlap: cases measured on divided by cases trained on, where each run held out another fold of the same data.
            The runs then share training cases, and the variance of the mean is widened from 1/n to 1/n + overlap
            (Nadeau and Bengio, "Inference for the generalization error", Machine Learning 52, 2003).
    """
    from scipy.stats import t

    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    if known.size < 2:
        return Estimate(float(known[0]) if known.size else math.nan, n=known.size)
    half = float(t.ppf(0.975, known.size - 1)) * _standard_error(known, overlap)
    mean = float(known.mean())
    return Estimate(mean, mean - half, mean + half, known.size)


def _standard_error(values: np.ndarray, overlap: float) -> float:
    return math.sqrt(float(values.var(ddof=1)) * (1 / values.size + overlap))


def paired_test(values: ArrayLike, baseline: ArrayLike, overlap: float = 0.0) -> PairedTest:
    """Compare two methods over the same seeds by a paired t-test.

    Where all differences are the same number, which t takes for certainty, the p-value is that of the exact sign-flip
    test instead, 2/2^n (and 1 where they are all zero).

    Args:
        values: one value a seed (n,).
        baseline: the other method's values for the same seeds (n,); pairs with a NaN are left out.
        overlap: see :func:`mean_interval`.
    """
    from scipy.stats import t

    differences = np.asarray(values, dtype=float) - np.asarray(baseline, dtype=float)
    differences = differences[np.isfinite(differences)]
    interval = mean_interval(differences, overlap)
    size = differences.size
    if size < 2:
        return PairedTest(interval, math.nan, size)
    if np.ptp(differences) <= 1e-12 * max(1.0, float(np.abs(differences).max())):
        return PairedTest(interval, 1.0 if interval.value == 0 else 2 / 2**size, size)
    statistic = interval.value / _standard_error(differences, overlap)
    return PairedTest(interval, float(2 * t.sf(abs(statistic), size - 1)), size)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number by Holm's step-down procedure (Scandinavian Journal of Statistics 6, 1979).

    Args:
        p_values: one a comparison; NaN (no test possible) stays NaN and does not count.

    Returns:
        Adjusted p-values in the same order, at most 1.
    """
    tested = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    adjusted = [math.nan] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        adjusted[i] = largest
    return adjusted
