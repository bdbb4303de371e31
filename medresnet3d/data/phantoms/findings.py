"""Where the nodules of a phantom chest lie, and what else a detector would stop at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medresnet3d.data.phantoms.canvas import Canvas
from medresnet3d.data.phantoms.lung_trees import Points, Tree
from medresnet3d.data.phantoms.nodule_shapes import (
    nodule_hu,
    nodule_shape,
    paint_bump,
    paint_nodule,
    paint_scar,
    random_directions,
)
from medresnet3d.data.phantoms.thorax import Thorax
from medresnet3d.errors import ConfigError

POINTS = 6000
GAP_MM = 6.0
JITTER_MM = 0.8


class Findings:
    """Paints nodules and other candidates into a chest, and remembers what is known about them.

    Args:
        canvas: the chest, with lungs, vessels and airways.
        thorax: its geometry.
        rng: where the randomness comes from.
        vessels: the vessel trees.
        airways: the bronchial trees.
    """

    def __init__(
        self, canvas: Canvas, thorax: Thorax, rng: np.random.Generator, vessels: list[Tree], airways: list[Tree]
    ) -> None:
        self.canvas = canvas
        self.thorax = thorax
        self.rng = rng
        self.trees = {"vessel": vessels, "airway": airways}
        self.mask = np.zeros(canvas.shape, dtype=np.uint8)
        self.nodules: list[tuple[Points, dict[str, Any]]] = []
        self.candidates: list[tuple[Points, dict[str, Any]]] = []
        self._taken: list[tuple[Points, float]] = []

    def shuffled(self) -> list[tuple[Points, dict[str, Any]]]:
        """All candidates in random order, each with its position (3,) and what is known about it."""
        return [self.candidates[number] for number in self.rng.permutation(len(self.candidates))]

    def add_distractors(self, count: int) -> None:
        """Add ``count`` candidates that are no nodules: about half of them forks of vessels."""
        kinds = self.rng.choice(["vessel", "airway", "pleura", "scar"], size=count, p=[0.5, 0.15, 0.2, 0.15])
        for kind in kinds.tolist():
            if kind in self.trees and self._add_fork(kind):
                continue
            if kind == "pleura":
                self._add_bump()
            else:
                self._add_scar()

    def add_nodules(
        self, count: int, diameters_mm: tuple[float, float], kinds: Sequence[str], margins: Sequence[str]
    ) -> None:
        """Add ``count`` nodules, alone in the lung, on a vessel or on the pleura."""
        for number in range(1, count + 1):
            diameter = float(np.exp(self.rng.uniform(*np.log(diameters_mm))))
            kind, margin = str(self.rng.choice(list(kinds))), str(self.rng.choice(list(margins)))
            place = str(self.rng.choice(["free", "vessel", "pleura"], p=[0.5, 0.35, 0.15]))
            middle = self._take(self._nodule_places(place, diameter / 2), diameter / 2)
            if middle is None:
                place, middle = "free", self._take(self._nodule_places("free", diameter / 2), diameter / 2)
            if middle is None:
                raise ConfigError(
                    f"chest_phantom: no room for nodule {number} of {count}; ask for fewer or smaller ones."
                )
            shape = nodule_shape(self.rng, middle, diameter, margin)
            hu = nodule_hu(self.rng, kind)
            box, distance = paint_nodule(self.canvas, self.rng, shape, kind, hu)
            self.mask[box][distance <= 0] = number
            known = {"kind": kind, "margin": margin, "place": place, "hu": hu}
            self.nodules.append(
                (middle, {"number": number, "diameter_mm": diameter, "volume_mm3": shape.volume(), **known})
            )
            self._remember(middle, is_nodule=True, kind="nodule", nodule=number)

    def _remember(self, middle: Points, **known: Any) -> None:
        """Note a candidate a little beside its middle, as a detector would."""
        self.candidates.append((middle + self.rng.normal(0, JITTER_MM, 3), {"nodule": 0, **known}))

    def _take(self, places: Points, radius: float) -> Points | None:
        """The first of ``places`` (n, 3) that keeps its distance from all that is taken, or nothing."""
        free = np.ones(len(places), dtype=bool)
        for point, other in self._taken:
            free &= np.linalg.norm(places - point, axis=1) > radius + other + GAP_MM
        if not free.any():
            return None
        chosen = places[free.argmax()]
        self._taken.append((chosen, radius))
        return chosen

    def _random_points(self, margin_mm: float) -> tuple[Points, npt.NDArray]:
        """Random points (n, 3) at least ``margin_mm`` inside the volume, and their depth (n,) in the lungs."""
        half = np.maximum(self.canvas.half_mm - margin_mm, 1.0)
        points = self.rng.uniform(-half, half, (POINTS, 3))
        return points, self._depth(points)

    def _depth(self, points: Points) -> npt.NDArray:
        return self.thorax.lung_depth(*np.moveaxis(points.astype(np.float32), -1, 0))

    def _nodule_places(self, place: str, radius: float) -> Points:
        """Random middles for a nodule of ``radius`` mm."""
        margin = 1.6 * radius + 3
        if place == "vessel":
            tree = self.trees["vessel"][self.rng.integers(len(self.trees["vessel"]))]
            thin = tree.end[(tree.radius[:, 1] < 1.8) & (tree.radius[:, 1] > 0.6)]
            points = self.rng.permutation(thin) + 0.7 * radius * random_directions(self.rng, len(thin))
            inside = (np.abs(points) < self.canvas.half_mm - margin).all(axis=1)
            return points[inside & (self._depth(points) > 0.8 * radius)]
        points, depth = self._random_points(margin)
        if place == "pleura":
            return points[(depth > 0.35 * radius) & (depth < 0.8 * radius)]
        return points[depth > radius + 2.5]

    def _add_fork(self, kind: str) -> bool:
        """Add a fork of a vessel or bronchus, a thick one more likely than a thin one; false if none is left."""
        forks = [tree.forks() for tree in self.trees[kind]]
        points, radii = (np.concatenate(part) for part in zip(*forks, strict=True))
        thick = np.flatnonzero((radii > 1.3) & (self._depth(points) > 3))
        order = thick[np.argsort(self.rng.exponential(1 / radii[thick] ** 2))]
        middle = self._take(points[order], 3.0)
        if middle is None:
            return False
        self._remember(middle, is_nodule=False, kind=kind)
        return True

    def _add_bump(self) -> None:
        """Add a bump of the pleura."""
        height = float(self.rng.uniform(3, 8))
        points, depth = self._random_points(8.0)
        places = points[(depth > 0.5) & (depth < 2.0)]
        surface = self._take(places, height)
        if surface is None:
            return
        step = np.eye(3) * 0.5
        slope = self._depth(surface + step) - self._depth(surface - step)
        inward = slope / max(float(np.linalg.norm(slope)), 1e-6)
        paint_bump(self.canvas, self.rng, surface, inward, height)
        self._remember(surface + 0.5 * height * inward, is_nodule=False, kind="pleura")

    def _add_scar(self) -> None:
        """Add a scar."""
        size = float(self.rng.uniform(8, 18))
        points, depth = self._random_points(8.0)
        middle = self._take(points[depth > 6], 4.0)
        if middle is None:
            return
        paint_scar(self.canvas, self.rng, middle, size)
        self._remember(middle, is_nodule=False, kind="scar")
