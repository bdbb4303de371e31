import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from medresnet3d.errors import DataError
from medresnet3d.metrics import classification_metrics, quadratic_kappa, reliability
from medresnet3d.metrics.classification import point_values, weighted_values


def _data(cases: int, classes: int, seed: int, decimals: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = np.r_[np.arange(classes), rng.integers(0, classes, size=cases - classes)]
    raw = rng.uniform(0.05, 1.0, size=(cases, classes)) + 0.35 * np.eye(classes)[label]
    prob = np.round(raw / raw.sum(axis=1, keepdims=True), decimals)
    return prob / prob.sum(axis=1, keepdims=True), label


@given(cases=st.integers(8, 60), classes=st.integers(2, 4), seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_figures_are_those_of_scikit_learn(cases: int, classes: int, seed: int) -> None:
    prob, label = _data(cases, classes, seed)
    answer = prob.argmax(axis=1)
    found = point_values(prob, label)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(label, answer))
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(label, answer))
    if classes == 2:
        assert found["auc"] == pytest.approx(sk.roc_auc_score(label, prob[:, 1]))
        assert found["sensitivity"] == pytest.approx(sk.recall_score(label, answer))
        assert found["specificity"] == pytest.approx(sk.recall_score(label, answer, pos_label=0))
        assert found["f1"] == pytest.approx(sk.f1_score(label, answer))
        assert found["brier"] == pytest.approx(sk.brier_score_loss(label, prob[:, 1]))
    else:
        assert found["auc"] == pytest.approx(sk.roc_auc_score(label, prob, multi_class="ovr", average="macro"))
        assert found["sensitivity"] == pytest.approx(sk.recall_score(label, answer, average="macro"))
        assert found["f1"] == pytest.approx(sk.f1_score(label, answer, average="macro"))
        assert found["brier"] == pytest.approx(np.mean(((prob - np.eye(classes)[label]) ** 2).sum(axis=1)))


@given(cases=st.integers(8, 40), classes=st.integers(2, 4), seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_weighted_figures_are_those_of_repeated_cases(cases: int, classes: int, seed: int) -> None:
    prob, label = _data(cases, classes, seed)
    counts = np.random.default_rng(seed).integers(1, 4, size=cases)
    weighted = weighted_values(counts[None].astype(float), prob, label, ordinal=True)
    direct = point_values(np.repeat(prob, counts, axis=0), np.repeat(label, counts), ordinal=True)
    assert "quadratic_kappa" in direct
    for name, value in direct.items():
        assert weighted[name][0] == pytest.approx(value, abs=1e-6), name


def test_every_figure_has_an_interval_around_it() -> None:
    prob, label = _data(80, 2, 1)
    found = classification_metrics(prob, label, np.arange(80) // 2, ["benign", "malignant"], n_boot=500)
    assert set(found) == {
        "accuracy",
        "balanced_accuracy",
        "auc",
        "sensitivity",
        "specificity",
        "f1",
        "brier",
        "ece",
    }
    assert found["ece"].value == pytest.approx(reliability(prob, label).error)
    for name, estimate in found.items():
        assert estimate.n == 40
        assert estimate.low < estimate.high
        if name != "ece":  # resampling makes calibration look worse than it is, so its interval may lie above
            assert estimate.low <= estimate.value <= estimate.high, name


def test_quadratic_kappa_where_classes_are_in_order() -> None:
    near, far = np.array([[8, 2, 0], [0, 10, 0], [0, 0, 10]]), np.array([[8, 0, 2], [0, 10, 0], [0, 0, 10]])
    label, answer = np.repeat([0, 0, 1, 2], [8, 2, 10, 10]), np.repeat([0, 1, 1, 2], [8, 2, 10, 10])
    assert quadratic_kappa(near) == pytest.approx(sk.cohen_kappa_score(label, answer, weights="quadratic"))
    assert quadratic_kappa(near) > quadratic_kappa(far) + 0.1, "an answer two grades away is worse"
    assert quadratic_kappa(np.eye(4)) == 1 and quadratic_kappa(np.ones((3, 3))) == 0
    assert math.isnan(quadratic_kappa([[5, 0], [0, 0]]))
    prob, truth = _data(60, 5, 0)
    assert "quadratic_kappa" not in classification_metrics(prob, truth, n_boot=20)
    found = classification_metrics(prob, truth, n_boot=200, ordinal=True)["quadratic_kappa"]
    assert found.low <= found.value <= found.high


def test_in_the_patient_score_every_patient_counts_once() -> None:
    right = np.array([1, 1, 1, 1, 0, 0, 1])  # four of four, none of two, one of one
    patients = ["a"] * 4 + ["b"] * 2 + ["c"]
    prob = np.stack([1 - right, right], 1)
    label = np.ones(7, dtype=int)
    found = classification_metrics(prob, label, patients, n_boot=400, patient_score=True)
    assert found["patient_score"].value == pytest.approx(2 / 3) and found["accuracy"].value == pytest.approx(5 / 7)
    assert found["patient_score"].low <= 2 / 3 <= found["patient_score"].high
    assert "patient_score" not in classification_metrics(prob, label, patients, n_boot=20)


def test_auc_interval_contains_the_true_area() -> None:
    """120 simulated studies with normal scores one standard deviation apart: the true area is Phi(1 / sqrt(2))."""
    truth = 0.5 * (1 + math.erf(0.5))
    rng = np.random.default_rng(0)
    hits = 0
    for study in range(120):
        label = np.arange(80) % 2
        score = 1 / (1 + np.exp(-(rng.normal(size=80) + label)))
        found = classification_metrics(np.stack([1 - score, score], axis=1), label, n_boot=200, seed=study)["auc"]
        hits += found.low <= truth <= found.high
    assert 0.88 <= hits / 120 <= 0.99


def test_one_class_leaves_auc_undefined_and_says_so() -> None:
    prob = np.tile([0.3, 0.7], (10, 1))
    found = classification_metrics(prob, np.ones(10, dtype=int), n_boot=100)
    assert math.isnan(found["auc"].value) and found["auc"].note == "undefined for these cases"
    assert math.isnan(found["specificity"].value)
    assert found["accuracy"].value == 1.0


def test_means_over_classes_are_over_those_that_occur() -> None:
    prob = np.asarray([[0.6, 0.1, 0.3], [0.2, 0.7, 0.1], [0.3, 0.2, 0.5], [0.5, 0.4, 0.1]])
    label = np.asarray([0, 0, 2, 2])
    found = point_values(prob, label)
    assert found["sensitivity"] == found["balanced_accuracy"] == 0.5
    assert found["auc"] == np.mean([0.5, 0.625])
    assert found["specificity"] == np.mean([0.5, 1.0])
    weighted = weighted_values(np.ones((1, 4)), prob, label)
    assert {name: values[0] for name, values in weighted.items()} == pytest.approx(found)


def test_a_rare_class_is_missing_in_some_resamples_and_that_is_said() -> None:
    prob, label = _data(30, 2, 0)
    label[:] = 0
    label[0] = 1
    found = classification_metrics(prob, label, n_boot=500)["auc"]
    assert found.low <= found.high
    assert "of the resamples" in found.note


def test_a_thousand_resamples_of_five_thousand_cases_are_fast() -> None:
    prob, label = _data(5000, 2, 0, decimals=6)
    started = time.perf_counter()
    classification_metrics(prob, label, np.arange(5000) // 3)
    assert time.perf_counter() - started < 20


@pytest.mark.parametrize(
    ("prob", "label", "options", "words"),
    [
        ([[0.5, 0.5]], [0, 1], {}, "do not belong together"),
        ([[1.0], [1.0]], [0, 0], {}, "at least two classes"),
        ([[2.0, -1.0]], [0], {}, "softmax"),
        ([[np.nan, 1.0]], [0], {}, "between 0 and 1"),
        ([[0.5, 0.5]], [2], {}, "class numbers from 0 to 1"),
        ([[0.5, 0.5]], [0], {"class_names": ["a"]}, "1 class names"),
        ([[0.5, 0.5]], [0], {"patients": ["a", "b"]}, "2 patients"),
    ],
)
def test_unusable_input_is_refused(
    prob: list[list[float]], label: list[int], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        classification_metrics(prob, label, **options)
