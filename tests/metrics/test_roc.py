from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from medresnet3d.metrics.roc import weighted_auc, weighted_sensitivity


@given(cases=st.integers(4, 40), seed=st.integers(0, 10_000), decimals=st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_weighted_auc_is_that_of_scikit_learn(cases: int, seed: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    truth = np.r_[True, False, rng.uniform(size=cases - 2) < 0.4]
    score = np.round(rng.uniform(size=cases), decimals)
    weights = rng.integers(0, 4, size=(5, cases)).astype(float)
    for row, area in zip(weights, weighted_auc(weights, truth, score), strict=True):
        if not row[truth].any() or not row[~truth].any():
            assert math.isnan(area)
        else:
            assert area == pytest.approx(sk.roc_auc_score(truth, score, sample_weight=row))


@pytest.mark.parametrize("specificity", [0.5, 0.8, 0.9, 0.95])
@given(seed=st.integers(0, 10_000), decimals=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_sensitivity_at_a_specificity_is_on_the_curve_of_scikit_learn(
    specificity: float, seed: int, decimals: int
) -> None:
    rng = np.random.default_rng(seed)
    truth = np.r_[True, False, rng.uniform(size=38) < 0.4]
    score = np.round(rng.uniform(size=40) + 0.3 * truth, decimals)
    weights = rng.integers(0, 4, size=(5, 40)).astype(float)
    for row, found in zip(weights, weighted_sensitivity(weights, truth, score, specificity), strict=True):
        if not row[truth].any() or not row[~truth].any():
            assert math.isnan(found)
            continue
        false_positive, sensitivity, _ = sk.roc_curve(truth, score, sample_weight=row, drop_intermediate=False)
        assert found == pytest.approx(sensitivity[false_positive <= 1 - specificity + 1e-9].max())
