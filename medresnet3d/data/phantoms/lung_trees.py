"""Branching trees inside the lungs: vessels that taper, and bronchi with a wall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medresnet3d.data.phantoms.canvas import Canvas, tube_distance
from medresnet3d.data.phantoms.nodule_shapes import random_directions
from medresnet3d.data.phantoms.thorax import AIR_HU, Thorax

Points = npt.NDArray[np.float64]

ENDS = 120
"""Twigs of a vessel tree."""


@dataclass(frozen=True)
class Tree:
    """Straight, tapering segments of a tree.

    Args:
        start: (n, 3) in mm.
        end: (n, 3) in mm.
        radius: (n, 2) in mm at the start and at the end.
        parent: (n,) number of the segment before, -1 for the first.
    """

    start: Points
    end: Points
    radius: Points
    parent: npt.NDArray[np.int64]

    def forks(self) -> tuple[Points, Points]:
        """Points (m, 3) where a segment forks, and the radius (m,) there."""
        forks = np.unique(self.parent[self.parent >= 0])
        return self.end[forks], self.radius[forks, 1]

    def thicker_than(self, radius: float) -> Tree:
        """The tree without the segments that start thinner than ``radius`` mm."""
        kept = self.radius[:, 0] > radius
        number = np.where(kept, np.cumsum(kept) - 1, -1)
        parent = np.where(self.parent[kept] >= 0, number[self.parent[kept]], -1)
        return Tree(self.start[kept], self.end[kept], self.radius[kept], parent)


def grow_tree(rng: np.random.Generator, root: Points, targets: Points, radius: float) -> Tree:
    """Grow a tree from ``root`` (3,) that reaches all ``targets`` (n, 3), which should fill the organ evenly.

    A branch grows towards the middle of its targets, then shares them out between two children on either side of a
    random plane (the volume-filling idea of Tawhai et al., 2000, doi:10.1114/1.1289457). By Murray's law the cube of
    the radius is proportional to the number of targets that a branch serves.
    """
    unit = radius / len(targets) ** (1 / 3)
    rows: list[tuple[Points, Points, tuple[float, float], int]] = []
    waiting = [(root, targets, -1)]
    while waiting:
        start, served, parent = waiting.pop()
        count = len(served)
        thick = unit * count ** (1 / 3)
        if count == 1:
            rows.append((start, served[0], (thick, 0.6 * thick), parent))
            continue
        end = start + rng.uniform(0.35, 0.6) * (served.mean(axis=0) - start) + rng.normal(0, 0.8, 3)
        rows.append((start, end, (thick, 0.93 * thick), parent))
        offset = served - served.mean(axis=0)
        longest = np.linalg.eigh(offset.T @ offset)[1][:, 2]
        longest *= np.copysign(1.0, longest.sum())
        side = offset @ (longest + 0.35 * random_directions(rng))
        order = np.argsort(side)
        cut = min(count - 1, max(1, round(count * rng.uniform(0.3, 0.7))))
        waiting += [(end, served[order[:cut]], len(rows) - 1), (end, served[order[cut:]], len(rows) - 1)]
    return Tree(*(np.array(column) for column in zip(*rows, strict=True)))


def paint_vessels(canvas: Canvas, tree: Tree, hu: float) -> None:
    """Paint a vessel tree."""
    for start, end, (first, last) in zip(tree.start, tree.end, tree.radius.tolist(), strict=True):
        canvas.tube(start, end, (first, last), hu)


def paint_airways(canvas: Canvas, tree: Tree, wall_hu: float = 0.0) -> None:
    """Paint a bronchial tree: all walls first, then the air inside them."""
    for extra, hu in ((1.0, wall_hu), (0.0, AIR_HU)):
        for start, end, (first, last) in zip(tree.start, tree.end, tree.radius.tolist(), strict=True):
            canvas.tube(start, end, (first + extra * (0.6 + 0.22 * first), last + extra * (0.6 + 0.22 * last)), hu)


def lung_trees(rng: np.random.Generator, thorax: Thorax) -> tuple[list[Tree], list[Tree]]:
    """Grow the vessels (an artery and a vein a lung) and the bronchi (one tree a lung) of a chest."""
    vessels, airways = [], []
    scale = min(1.0, thorax.half[0] / 100)
    for side in (1, -1):
        hilum = thorax.hilum(side)
        for up, radius in ((1, 4.8), (-1, 4.4)):
            targets = _fill_lung(rng, thorax, side, ENDS)
            root = hilum + np.array([-2.0 * side, 3.0 * up, 5.0 * up])
            vessels.append(grow_tree(rng, root, targets, scale * radius * rng.uniform(0.9, 1.15)))
        bronchi = grow_tree(rng, hilum, _fill_lung(rng, thorax, side, ENDS // 5), scale * rng.uniform(3.2, 4.0))
        airways.append(bronchi.thicker_than(1.0))
    return vessels, airways


def _fill_lung(rng: np.random.Generator, thorax: Thorax, side: int, count: int) -> Points:
    """Random points (count, 3) that fill the right (+1) or left (-1) lung."""
    half = np.array(thorax.half)
    points = rng.uniform(-half, half, (30 * count, 3))
    points[:, 0] = side * np.abs(points[:, 0])
    inside = thorax.lung_depth(*np.moveaxis(points.astype(np.float32), -1, 0)) > 3
    return points[inside][:count]


def windpipe(thorax: Thorax) -> Tree:
    """The trachea and the two main bronchi."""
    carina = np.array([0.0, -5.0, 0.22 * thorax.half[2]])
    top = np.array([0.0, 2.0, 1.2 * thorax.half[2]])
    right, left = thorax.hilum(1), thorax.hilum(-1)
    return Tree(
        start=np.stack([top, carina, carina]),
        end=np.stack([carina, right, left]),
        radius=np.array([[6.5, 6.5], [5.2, 4.0], [5.0, 3.8]]),
        parent=np.array([-1, 0, 0]),
    )


def inside_windpipe(canvas: Canvas, pipe: Tree) -> npt.NDArray[np.bool_]:
    """Voxels in the air of the trachea."""
    start, end = pipe.start[0].astype(np.float32), pipe.end[0].astype(np.float32)
    return tube_distance(canvas.grid(), start, end, (float(pipe.radius[0, 0]), float(pipe.radius[0, 1]))) < 0
