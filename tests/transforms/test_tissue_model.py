from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medresnet3d.data.phantoms.brain import brain_phantom
from medresnet3d.transforms.tissue_model import FREEDOM, USUAL_BORDERS, shading, tissue_borders

LEVELS = np.array([0.0, 0.45, 0.9, 1.25])  # of the classes, on the scale that the borders are looked for on


def scan(seed: int, ventricles: float = 0.5, noise: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """A volume with known levels, and its brain."""
    labels = brain_phantom(seed, 64, ventricles=ventricles).labels
    rng = np.random.default_rng(seed)
    volume = LEVELS[labels] + noise * rng.standard_normal(labels.shape)
    return np.maximum(volume, 0.1).astype(np.float32), labels > 0


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 100), ventricles=st.floats(0, 1))
def test_borders_lie_between_the_tissues(seed: int, ventricles: float) -> None:
    fluid_grey, grey_white = tissue_borders(*scan(seed, ventricles))
    assert LEVELS[1] < fluid_grey < LEVELS[2] < grey_white < LEVELS[3]


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_borders_never_leave_the_usual_ones_by_far(factor: float) -> None:
    volume, brain = scan(0)
    for found, usual in zip(tissue_borders(volume * factor, brain), USUAL_BORDERS, strict=True):
        assert 0.9 * FREEDOM < abs(found - usual) <= 1.001 * FREEDOM


def test_in_a_tiny_volume_nothing_is_estimated() -> None:
    volume, brain = np.full((6, 6, 6), 0.7, dtype=np.float32), np.ones((6, 6, 6), dtype=bool)
    assert tissue_borders(volume, brain) == USUAL_BORDERS
    assert np.array_equal(shading(volume, brain), np.ones((6, 6, 6)))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 1.0, 3.0)])
def test_shading_is_found_again(spacing: tuple[float, float, float]) -> None:
    volume, brain = scan(1)
    truth = np.exp(0.3 * np.linspace(-1, 1, volume.shape[0]))[:, None, None] * np.ones(volume.shape)
    found = np.log(shading(volume * truth, brain, spacing)[brain])
    assert found.mean() == pytest.approx(0, abs=0.02)
    assert np.corrcoef(found, np.log(truth[brain]))[0, 1] > 0.9
