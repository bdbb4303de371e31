"""Figures of a screening test that is made of ordered grades: does a case have at least this grade?

Paper: X. Zou et al., a residual network for screening of diabetic retinopathy that is trained on several categories
(2019), known to us from a survey only; that the score is the sum of the probabilities is our reading.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medresnet3d.errors import DataError
from medresnet3d.metrics.bootstrap import Weights
from medresnet3d.metrics.roc import weighted_auc, weighted_sensitivity

Array = NDArray[np.float64]

SPECIFICITY = 0.9
"""Share of healthy cases that a screening test must let pass where its sensitivity is measured."""


def screening_scores(prob: ArrayLike, from_grade: int = 1) -> Array:
    r"""Probability of at least a grade, :math:`s_t = \sum_{g \geq t} p_g`; never larger for a higher t.

    Args:
        prob: probabilities (..., C) of grades in rising order.
        from_grade: t, from 1 to C - 1.

    Returns:
        (...), float64.

    Raises:
        DataError: if there is no such grade.
    """
    probabilities = np.asarray(prob, dtype=np.float64)
    count = probabilities.shape[-1]
    if not 1 <= from_grade < count:
        raise DataError(f"Screening from grade {from_grade} is impossible with {count} grades; use 1 to {count - 1}.")
    return np.asarray(probabilities[..., from_grade:].sum(axis=-1))


def weighted_screening(
    weights: Weights, prob: Array, label: NDArray[np.int64], from_grade: int, specificity: float = SPECIFICITY
) -> dict[str, Array]:
    """Compute how well the score tells cases of at least a grade from the others, for many weightings of the cases.

    Args:
        weights: how often each case counts, (B, N).
        prob: probabilities (N, C) of grades in rising order.
        label: true grades (N,).
        from_grade: the lowest grade that the screening must find.
        specificity: the least share of cases below that grade that must pass.

    Returns:
        ``screening_auc``, the area under the ROC curve, and ``screening_sensitivity`` at that specificity: one array
        (B,) a figure, NaN where all cases are on one side.

    Raises:
        DataError: if there is no such grade.
    """
    score, truth = screening_scores(prob, from_grade), label >= from_grade
    return {
        "screening_auc": weighted_auc(weights, truth, score),
        "screening_sensitivity": weighted_sensitivity(weights, truth, score, specificity),
    }
