import numpy as np
import pytest

from medresnet3d.metrics import reliability
from medresnet3d.metrics.calibration import bin_numbers


def test_honest_probabilities_have_a_small_error() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(size=20_000)
    label = (rng.uniform(size=p.size) < p).astype(int)
    assert reliability(np.stack([1 - p, p], axis=1), label).error < 0.015


def test_overconfident_probabilities_have_the_known_error() -> None:
    prob = np.tile([0.05, 0.95], (1000, 1))
    label = np.r_[np.ones(700), np.zeros(300)].astype(int)
    curve = reliability(prob, label)
    assert curve.error == pytest.approx(0.25, abs=1e-4)
    np.testing.assert_allclose([curve.confidence[0], curve.accuracy[0], curve.count[0]], [0.95, 0.7, 1000], rtol=1e-4)


def test_only_filled_bins_are_given() -> None:
    curve = reliability([[0.1, 0.9], [0.45, 0.55]], [1, 1])
    assert list(curve.count) == [1, 1] and np.isfinite(curve.confidence).all()


def test_bins_are_those_of_monai() -> None:
    confidence = np.r_[np.linspace(0.0, 1.0, 101), 1.0]
    prob = np.stack([confidence, 1 - confidence], axis=1)
    top = prob.max(axis=1)
    counts = np.bincount(bin_numbers(top, 10), minlength=10)
    np.testing.assert_array_equal(counts[counts > 0], reliability(prob, np.zeros(len(prob), dtype=int)).count)
