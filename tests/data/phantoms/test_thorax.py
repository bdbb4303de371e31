from __future__ import annotations

import numpy as np
import pytest

from medresnet3d.data.phantoms.canvas import Canvas
from medresnet3d.data.phantoms.thorax import (
    LEFT_LUNG,
    RIGHT_LUNG,
    Thorax,
    lung_labels,
    lung_texture,
    make_thorax,
    paint_body,
    paint_lungs,
)


@pytest.fixture(scope="module")
def canvas() -> Canvas:
    return Canvas((80, 64, 40), (2.5, 2.5, 3.0))


@pytest.fixture(scope="module")
def thorax(canvas: Canvas) -> Thorax:
    return make_thorax(np.random.default_rng(3), canvas.half_mm)


def test_depth_grows_by_a_millimetre_a_millimetre_at_the_chest_wall(thorax: Thorax) -> None:
    x = np.linspace(40, 90, 101, dtype=np.float32)
    depth = thorax.lung_depth(x, np.float32(0) * x, np.float32(0) * x)
    crossing = np.abs(depth).argmin()
    assert x[crossing] == pytest.approx(thorax.body[0] - thorax.wall, abs=0.6)
    assert np.diff(depth)[crossing] / np.diff(x)[crossing] == pytest.approx(-1, abs=0.05)


def test_points_and_grids_agree(canvas: Canvas, thorax: Thorax) -> None:
    grid = thorax.lung_depth(*canvas.grid())
    index = np.array([[10, 30, 20], [60, 20, 10], [40, 40, 30]])
    points = [axis[index[:, n]] for n, axis in enumerate(canvas.axes)]
    np.testing.assert_allclose(thorax.lung_depth(*points), grid[tuple(index.T)], rtol=1e-5, atol=1e-4)


def test_lungs_are_cut_out_of_the_body_and_labelled_by_side(canvas: Canvas, thorax: Thorax) -> None:
    rng = np.random.default_rng(0)
    paint_body(canvas, rng, thorax)
    tissue = canvas.hu.copy()
    depth = paint_lungs(canvas, rng, thorax)
    labels = lung_labels(canvas, depth)
    inside = depth > canvas.edge_mm
    assert canvas.hu[inside].max() < -500
    np.testing.assert_array_equal(canvas.hu[depth < -canvas.edge_mm], tissue[depth < -canvas.edge_mm])
    assert set(np.unique(labels[:40])) == {0, LEFT_LUNG}
    assert set(np.unique(labels[40:])) == {0, RIGHT_LUNG}
    assert tissue.max() > 300, "bones"


def test_lung_is_denser_at_the_back() -> None:
    canvas = Canvas((40, 40, 20), (3.0, 3.0, 3.0))
    texture = lung_texture(canvas, np.random.default_rng(1))
    assert texture[:, :10].mean() > texture[:, -10:].mean() + 10
