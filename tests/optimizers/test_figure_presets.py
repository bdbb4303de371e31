"""The shapes that the survey's text gives its figures 2 to 5."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import is_color_like

from medresnet3d.optimizers import FIGURES


def curves(figure: int) -> list[np.ndarray]:
    return [np.array(curve.values()) for curve in FIGURES[figure][1]]


def falls(curve: np.ndarray) -> bool:
    return bool((np.diff(curve) <= 1e-12).all())


def test_every_figure_has_400_rates_from_about_one_half() -> None:
    assert sorted(FIGURES) == [2, 3, 4, 5]
    for figure, (title, presets) in FIGURES.items():
        assert title
        assert all(is_color_like(preset.colour) and preset.label for preset in presets)
        for curve in curves(figure)[:2]:
            assert curve.shape == (400,)
            assert (curve >= 0).all()
        assert curves(figure)[0][0] == 0.5


def test_figure_2_reaches_its_floor_and_stays_or_rises_in_saw_teeth() -> None:
    plain, cycle = curves(2)
    assert falls(plain)
    assert (plain[:50] > 0.01).all() and (plain[50:] == 0.01).all()
    jumps = np.flatnonzero(np.diff(cycle) > 0)
    assert jumps.tolist() == [50, 100, 150, 200, 250, 300, 350]
    assert all(falls(cycle[start:stop]) for start, stop in zip([0, *(jumps + 1)], [*(jumps + 1), 400], strict=True))
    peaks = cycle[jumps + 1]
    assert falls(peaks)


def test_figure_3_falls_without_a_floor_smoothly_or_in_stairs() -> None:
    smooth, stairs = curves(3)
    assert falls(smooth) and falls(stairs)
    assert (np.diff(smooth) < 0).all()
    assert len(set(stairs)) == 8
    assert (stairs >= smooth).all()


def test_figure_4_has_natural_exponential_below_exponential_everywhere() -> None:
    piecewise, exponential, natural = curves(4)
    assert all(falls(curve) for curve in (piecewise, exponential, natural))
    assert (natural[1:] < exponential[1:]).all()
    assert sorted(set(piecewise), reverse=True) == [0.5, 0.25, 0.1, 0.05]


def test_figure_5_cosine_falls_then_stays_flat_and_the_noise_lies_around_the_linear_cosine() -> None:
    cosine, linear, noisy = curves(5)
    assert falls(cosine)
    assert cosine[299] > 0 and (cosine[300:] == 0).all()
    assert falls(linear)
    difference = (noisy - linear)[:300]
    assert (difference != 0).all()
    assert abs(np.median(difference)) < 0.005
    assert difference.std() > 0.005
