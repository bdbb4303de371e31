from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from medresnet3d.errors import DataError
from medresnet3d.metrics import classification_metrics
from medresnet3d.metrics.screening import screening_scores


@given(seed=st.integers(0, 10_000))
def test_a_higher_grade_is_never_more_probable(seed: int) -> None:
    prob = np.random.default_rng(seed).dirichlet([0.5] * 5, 7)
    scores = [screening_scores(prob, grade) for grade in range(1, 5)]
    assert all((low >= high).all() for low, high in pairwise(scores))
    np.testing.assert_allclose(scores[0], 1 - prob[:, 0], atol=1e-12)


def graded(count: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    label = random.integers(0, 5, count)
    logits = random.normal(size=(count, 5)) - 0.5 * np.abs(np.arange(5) - label[:, None])
    prob = np.exp(logits)
    return prob / prob.sum(1, keepdims=True), label


@pytest.mark.parametrize("grade", [1, 2])
def test_evaluation_has_the_figures_of_the_score(grade: int) -> None:
    prob, label = graded()
    found = classification_metrics(prob, label, n_boot=100, screening_grade=grade)
    assert found["screening_auc"].value == pytest.approx(roc_auc_score(label >= grade, screening_scores(prob, grade)))
    for name in ("screening_auc", "screening_sensitivity"):
        assert found[name].low < found[name].value < found[name].high
    assert "screening_auc" not in classification_metrics(prob, label, n_boot=10)


@pytest.mark.parametrize("side", [0, 4])
def test_cases_of_one_side_have_no_figure(side: int) -> None:
    prob, _ = graded(20)
    found = classification_metrics(prob, np.full(20, side), n_boot=20, screening_grade=1)
    assert np.isnan([found[name].value for name in ("screening_auc", "screening_sensitivity")]).all()


@pytest.mark.parametrize("grade", [0, 5])
def test_an_impossible_grade_is_named(grade: int) -> None:
    with pytest.raises(DataError, match=f"grade {grade} is impossible with 5 grades; use 1 to 4"):
        screening_scores(graded(3)[0], grade)
