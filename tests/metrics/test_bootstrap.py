import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medresnet3d.metrics import bootstrap_intervals, patient_weights
from medresnet3d.metrics.bootstrap import Statistic, Weights, paired_intervals
from medresnet3d.metrics.classification import weighted_values


def _mean_statistic(values: NDArray[Any]) -> Statistic:
    return lambda weights: {"mean": weights @ values / weights.sum(axis=1)}


def test_all_cases_of_a_patient_are_drawn_together() -> None:
    patients = ["a", "b", "a", "c", "b", "a"]
    for weights, count in patient_weights(patients, 50):
        assert count == 3
        np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
        np.testing.assert_array_equal(weights[:, 0], weights[:, 5])
        np.testing.assert_array_equal(weights[:, 1], weights[:, 4])
        np.testing.assert_array_equal(weights[:, [0, 1, 3]].sum(axis=1), 3)


def test_chunks_do_not_change_the_number_of_resamples() -> None:
    shapes = [weights.shape for weights, _ in patient_weights(range(10), 25, chunk=40)]
    assert shapes == [(4, 10)] * 6 + [(1, 10)]


def test_same_seed_same_interval() -> None:
    values = np.random.default_rng(0).normal(size=30)
    one, two, other = (
        bootstrap_intervals({"mean": values.mean()}, _mean_statistic(values), range(30), 200, seed)["mean"]
        for seed in (1, 1, 2)
    )
    assert one == two
    assert (one.low, one.high) != (other.low, other.high)


def test_repeated_images_of_a_patient_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(0).normal(size=20)
    once = bootstrap_intervals({"mean": values.mean()}, _mean_statistic(values), range(20), 2000)["mean"]
    many = np.repeat(values, 10)
    by_patient = bootstrap_intervals({"mean": many.mean()}, _mean_statistic(many), np.repeat(range(20), 10), 2000)[
        "mean"
    ]
    by_image = bootstrap_intervals({"mean": many.mean()}, _mean_statistic(many), range(200), 2000)["mean"]
    assert by_patient.high - by_patient.low == pytest.approx(once.high - once.low, rel=0.1)
    assert by_image.high - by_image.low < 0.5 * (once.high - once.low)


def test_interval_contains_the_truth_about_as_often_as_it_says() -> None:
    """400 simulated studies of 40 patients with 1 to 4 correlated images each; the true mean is 0."""
    rng = np.random.default_rng(3)
    hits = 0
    for study in range(400):
        patients = np.repeat(np.arange(40), rng.integers(1, 5, size=40))
        values = rng.normal(size=40)[patients] + 0.3 * rng.normal(size=len(patients))
        found = bootstrap_intervals({"mean": values.mean()}, _mean_statistic(values), patients, 300, seed=study)["mean"]
        hits += found.low <= 0.0 <= found.high
    assert 0.90 <= hits / 400 <= 0.98


def test_too_few_patients_give_no_interval_and_say_so() -> None:
    found = bootstrap_intervals({"mean": 1.0}, _mean_statistic(np.ones(8)), ["a", "b"] * 4)["mean"]
    assert found.value == 1.0 and math.isnan(found.low) and found.note == "no interval: 2 patients"


def test_undefined_resamples_are_left_out_and_counted() -> None:
    only_last = np.zeros(4)
    only_last[3] = 1.0

    def statistic(weights: Weights) -> dict[str, NDArray[Any]]:
        return {"share": np.where(weights[:, 3] > 0, 1.0, np.nan)}

    found = bootstrap_intervals({"share": 1.0}, statistic, range(4), 2000)["share"]
    assert found.low == found.high == 1.0
    left_out = float(found.note.removeprefix("undefined in ").split("%")[0])
    assert left_out == pytest.approx(100 * 0.75**4, abs=4)


def test_mostly_undefined_resamples_give_no_interval() -> None:
    def statistic(weights: Weights) -> dict[str, NDArray[Any]]:
        return {"x": np.where((weights == 1).all(axis=1), 1.0, np.nan)}

    found = bootstrap_intervals({"x": 1.0}, statistic, range(6), 500)["x"]
    assert math.isnan(found.low) and found.note.startswith("no interval: undefined in")


def test_few_patients_are_named_in_the_note() -> None:
    few, enough = (
        bootstrap_intervals({"mean": 1.0}, _mean_statistic(np.ones(n)), range(n), 50)["mean"].note for n in (9, 10)
    )
    assert few == "only 9 patients: the interval is a rough guess" and enough == ""


def test_an_interval_beside_its_figure_is_said_to_be_so() -> None:
    patients = np.arange(40)
    largest = {"x": -1.0}
    shifted = bootstrap_intervals(largest, lambda weights: {"x": np.zeros(len(weights))}, patients, n_boot=50)
    assert "lies beside it" in shifted["x"].note


def test_a_paired_interval_is_narrower_where_both_find_the_same_cases_hard() -> None:
    rng = np.random.default_rng(0)
    label = np.arange(120) % 2
    hard = rng.normal(0, 2, 120)
    scores = [1 / (1 + np.exp(-(2 * label - 1 + hard + rng.normal(0, 0.1, 120)))) for _ in range(2)]
    probs = [np.stack([1 - score, score], axis=1) for score in scores]
    people = list(range(120))
    found = paired_intervals(
        lambda weights: weighted_values(weights, probs[0], label),
        lambda weights: weighted_values(weights, probs[1], label),
        people,
    )["auc"]
    assert found.low < found.value < found.high and found.high - found.low < 0.03
    same = paired_intervals(*[lambda weights: weighted_values(weights, probs[0], label)] * 2, people)["auc"]
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
