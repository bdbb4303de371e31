from __future__ import annotations

import numpy as np
import pytest
from skimage.measure import marching_cubes, mesh_surface_area

from medresnet3d.data.phantoms.canvas import Canvas
from medresnet3d.data.phantoms.nodule_shapes import (
    StarShape,
    frame,
    nodule_shape,
    paint_bump,
    paint_nodule,
    paint_scar,
    sphere_directions,
)

NONE = np.zeros((0, 3))


def _ball(radius: float, squash: tuple[float, float, float] = (1, 1, 1)) -> StarShape:
    return StarShape(np.zeros(3), radius, NONE, np.zeros(0), NONE, np.zeros(0), np.array(squash, dtype=float))


def test_ball_and_ellipsoid_against_their_formulas() -> None:
    assert _ball(5.0).volume() == pytest.approx(4 / 3 * np.pi * 125, rel=1e-6)
    assert _ball(5.0, (2, 1, 0.5)).volume() == pytest.approx(4 / 3 * np.pi * 125, rel=1e-3)
    canvas = Canvas((21, 21, 21), (1.0, 1.0, 1.0))
    x, y, z = canvas.grid()
    distance = _ball(5.0).distance((x, y, z))
    np.testing.assert_allclose(distance, np.sqrt(x**2 + y**2 + z**2) - 5, atol=2e-3)


@pytest.mark.parametrize("margin", ["smooth", "spiculated"])
def test_volume_against_counted_voxels(margin: str) -> None:
    shape = nodule_shape(np.random.default_rng(2), (1.0, -2.0, 0.5), 12.0, margin)
    canvas = Canvas((90, 90, 90), (0.4, 0.4, 0.4))
    inside = shape.distance(canvas.grid()) <= 0
    assert inside.sum() * 0.4**3 == pytest.approx(np.pi / 6 * 12**3, rel=0.01)
    corner = np.abs(np.stack(np.nonzero(inside), axis=1) * 0.4 - 17.8 - (1.0, -2.0, 0.5)).max()
    assert corner <= shape.reach()


def test_spicules_give_more_surface_for_the_same_volume() -> None:
    def surface(margin: str, seed: int) -> float:
        shape = nodule_shape(np.random.default_rng(seed), (0, 0, 0), 14.0, margin)
        distance = shape.distance(Canvas((64, 64, 64), (0.6, 0.6, 0.6)).grid())
        vertices, faces, _, _ = marching_cubes(distance, 0.0, spacing=(0.6, 0.6, 0.6))
        return mesh_surface_area(vertices, faces)

    smooth, spiculated = ([surface(margin, seed) for seed in range(4)] for margin in ("smooth", "spiculated"))
    assert min(spiculated) > max(smooth)


def test_vessels_show_through_ground_glass_but_not_through_solid() -> None:
    values = {}
    for kind, hu in (("ground_glass", -500.0), ("solid", 20.0)):
        canvas = Canvas((40, 40, 40), (0.7, 0.7, 0.7), hu=-850.0)
        canvas.tube((0, 0, -20), (0, 0, 20), (1.5, 1.5), 200.0)
        paint_nodule(canvas, np.random.default_rng(0), _ball(7.0), kind, hu)
        values[kind] = canvas.hu[20, 20, 20]
    assert values["ground_glass"] == pytest.approx(200, abs=30)
    assert values["solid"] == pytest.approx(20, abs=1)


def test_bump_rises_from_its_surface_and_a_scar_is_flat() -> None:
    canvas = Canvas((40, 40, 40), (1.0, 1.0, 1.0), hu=-850.0)
    paint_bump(canvas, np.random.default_rng(1), (-10.0, 0.0, 0.0), (1.0, 0.0, 0.0), 6.0)
    column = canvas.hu[:, 20, 20]
    assert column[12] > -100 and column[18] < -800, "six millimetres high"
    scar = Canvas((40, 40, 40), (1.0, 1.0, 1.0), hu=-850.0)
    paint_scar(scar, np.random.default_rng(1), (0.0, 0.0, 0.0), 16.0)
    points = np.argwhere(scar.hu > -500)
    extent = np.sqrt(np.linalg.eigvalsh(np.cov(points.T)))
    assert extent[0] < 0.5 * extent[2]


def test_frames_are_right_angled_and_directions_even() -> None:
    axes = frame(np.random.default_rng(0), (0.0, 0.6, 0.8))
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(axes[0], (0.0, 0.6, 0.8), atol=1e-12)
    np.testing.assert_allclose(sphere_directions(1000).mean(axis=0), 0, atol=1e-3)
