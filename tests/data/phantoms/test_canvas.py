from __future__ import annotations

import numpy as np
import pytest

from medresnet3d.data.phantoms.canvas import Canvas, scanner_noise, smooth_noise


def test_partial_volume_keeps_the_mass_of_a_ball_on_an_anisotropic_grid() -> None:
    canvas = Canvas((40, 40, 16), (0.8, 0.8, 2.0), hu=0.0)
    canvas.ellipsoid((0.3, -0.2, 0.7), (8.0, 8.0, 8.0), 1.0)
    volume = canvas.hu.sum() * 0.8 * 0.8 * 2.0
    assert volume == pytest.approx(4 / 3 * np.pi * 8**3, rel=0.03)
    centre = [
        (canvas.hu.sum(axis=other) @ axis) / canvas.hu.sum()
        for axis, other in zip(canvas.axes, ((1, 2), (0, 2), (0, 1)), strict=True)
    ]
    assert centre == pytest.approx((0.3, -0.2, 0.7), abs=0.1)


def test_tubes_taper() -> None:
    canvas = Canvas((60, 30, 30), (1.0, 1.0, 1.0), hu=0.0)
    canvas.tube((-25, 0, 0), (25, 0, 0), (6.0, 2.0), 1.0)
    area = canvas.hu.sum(axis=(1, 2))
    assert area[10] > 3 * area[50] > 0
    assert area[30] == pytest.approx(np.pi * 4**2, rel=0.1)


def test_tubes_thinner_than_a_voxel_fade_with_their_cross_section() -> None:
    areas = []
    for radius in (0.3, 0.6):
        canvases = [Canvas((15, 15, 4), (2.0, 2.0, 2.0), hu=0.0) for _ in range(25)]
        for number, canvas in enumerate(canvases):
            x, y = 0.4 * (number % 5), 0.4 * (number // 5)
            canvas.tube((x, y, -30), (x, y, 30), (radius, radius), 1.0)
        areas.append(np.mean([canvas.hu[:, :, 1].sum() * 4 for canvas in canvases]))
        assert areas[-1] == pytest.approx(4 / 3 * np.pi * radius**2, rel=0.15)
    assert areas[0] < 0.3 * areas[1]


def test_painting_outside_the_volume_changes_nothing() -> None:
    canvas = Canvas((10, 10, 10), (1.0, 1.0, 1.0), hu=5.0)
    canvas.tube((50, 50, 50), (60, 60, 60), (2.0, 2.0), 100.0)
    canvas.ellipsoid((-40, 0, 0), (3, 3, 3), 100.0)
    assert (canvas.hu == 5.0).all()


def test_a_turned_ellipsoid_points_where_it_is_turned_to() -> None:
    canvas = Canvas((41, 41, 41), (1.0, 1.0, 1.0), hu=0.0)
    diagonal = np.array([[1, 1, 0], [-1, 1, 0], [0, 0, 2**0.5]]) / 2**0.5
    canvas.ellipsoid((0, 0, 0), (14, 3, 3), 1.0, turn=diagonal)
    assert canvas.hu[28, 28, 20] == 1.0
    assert canvas.hu[28, 12, 20] == 0.0


def test_noise_has_the_asked_spread_and_grain() -> None:
    rng = np.random.default_rng(0)
    fine, coarse = (smooth_noise(rng, (40, 40, 20), (1.0, 1.0, 2.0), scale) for scale in (3.0, 12.0))
    for noise in (fine, coarse, scanner_noise(rng, (40, 40, 20), 0.6)):
        assert noise.std() == pytest.approx(1, abs=0.02)
    assert np.diff(coarse, axis=0).std() < 0.5 * np.diff(fine, axis=0).std()
