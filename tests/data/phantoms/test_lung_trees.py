from __future__ import annotations

import numpy as np
import pytest

from medresnet3d.data.phantoms.canvas import Canvas
from medresnet3d.data.phantoms.lung_trees import Tree, grow_tree, paint_airways, windpipe
from medresnet3d.data.phantoms.thorax import make_thorax


@pytest.fixture
def tree() -> Tree:
    rng = np.random.default_rng(0)
    return grow_tree(rng, np.zeros(3), rng.uniform(20, 80, (64, 3)), 5.0)


def test_murrays_law_holds_at_every_fork(tree: Tree) -> None:
    for number in np.unique(tree.parent[tree.parent >= 0]):
        children = tree.radius[tree.parent == number, 0]
        assert len(children) == 2
        assert (children**3).sum() == pytest.approx(tree.radius[number, 0] ** 3)
        np.testing.assert_array_equal(tree.start[tree.parent == number], np.tile(tree.end[number], (2, 1)))


def test_every_target_is_reached_and_forks_are_listed(tree: Tree) -> None:
    leaves = np.setdiff1d(np.arange(len(tree.parent)), tree.parent)
    assert len(leaves) == 64
    points, radii = tree.forks()
    assert len(points) == len(radii) == 63
    assert radii.max() < 5.0


def test_cutting_thin_twigs_keeps_the_tree_connected(tree: Tree) -> None:
    thick = tree.thicker_than(2.0)
    assert 0 < len(thick.parent) < len(tree.parent)
    assert thick.radius[:, 0].min() > 2.0
    for number, parent in enumerate(thick.parent):
        if parent >= 0:
            np.testing.assert_array_equal(thick.start[number], thick.end[parent])


def test_airways_have_a_wall_around_air() -> None:
    canvas = Canvas((31, 31, 21), (1.0, 1.0, 1.0), hu=-850.0)
    pipe = Tree(np.array([[0.0, 0.0, -20.0]]), np.array([[0.0, 0.0, 20.0]]), np.array([[4.0, 4.0]]), np.array([-1]))
    paint_airways(canvas, pipe)
    row = canvas.hu[15:, 15, 10]
    assert row[0] < -950
    assert row[4:7].max() > -350
    assert row[9] == -850


def test_the_windpipe_forks_into_both_lungs() -> None:
    pipe = windpipe(make_thorax(np.random.default_rng(0), np.array([100.0, 80.0, 60.0])))
    assert pipe.end[1, 0] > 0 > pipe.end[2, 0]
    np.testing.assert_array_equal(pipe.start[1], pipe.end[0])
