import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from medresnet3d.errors import DataError
from medresnet3d.metrics import regression_metrics
from medresnet3d.metrics.regression import weighted_values


@given(cases=st.integers(5, 50), seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_weighted_figures_are_those_of_repeated_cases(cases: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(20, 90, size=cases)
    predicted = truth + rng.normal(scale=5, size=cases)
    counts = rng.integers(1, 4, size=cases)
    found = weighted_values(counts[None].astype(float), predicted, truth)
    x, y = np.repeat(predicted, counts), np.repeat(truth, counts)
    assert found["mae"][0] == pytest.approx(sk.mean_absolute_error(y, x))
    assert found["r2"][0] == pytest.approx(sk.r2_score(y, x))
    assert found["r"][0] == pytest.approx(np.corrcoef(x, y)[0, 1])


def test_figures_with_intervals() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(20, 90, size=60)
    predicted = truth + rng.normal(scale=4, size=60)
    found = regression_metrics(predicted, truth, np.arange(60) // 2)
    assert found["mae"].value == pytest.approx(np.abs(predicted - truth).mean())
    for estimate in found.values():
        assert estimate.low < estimate.value < estimate.high and estimate.n == 30


def test_constant_truth_has_no_correlation() -> None:
    found = regression_metrics([1.0, 2.0, 3.0, 4.0], [2.0] * 4)
    assert math.isnan(found["r"].value) and math.isnan(found["r2"].value)
    assert found["mae"].value == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("predicted", "truth", "patients", "words"),
    [
        ([1.0], [1.0, 2.0], None, "do not belong together"),
        ([], [], None, "do not belong together"),
        ([math.nan], [1.0], None, "not a finite number"),
        ([1.0], [1.0], ["a", "b"], "2 patients"),
    ],
)
def test_unusable_input_is_refused(
    predicted: list[float], truth: list[float], patients: list[str] | None, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        regression_metrics(predicted, truth, patients)
