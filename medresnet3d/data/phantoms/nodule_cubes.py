"""Single cubes of lung with one structure in the middle: quicker to make than a whole chest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from medresnet3d.data.phantoms.canvas import Canvas, scanner_noise
from medresnet3d.data.phantoms.lung_trees import Tree, grow_tree, paint_airways, paint_vessels
from medresnet3d.data.phantoms.nodule_shapes import (
    KINDS,
    MARGINS,
    nodule_hu,
    nodule_shape,
    paint_bump,
    paint_nodule,
    paint_scar,
    random_directions,
)
from medresnet3d.data.phantoms.thorax import MUSCLE_HU, lung_texture
from medresnet3d.errors import ConfigError

DISTRACTORS = ("vessel", "airway", "pleura", "scar")
"""Structures that are mistaken for nodules."""

CUBE_KINDS = (*(f"{kind}_{margin}" for kind in KINDS for margin in MARGINS), *DISTRACTORS)
"""What the middle of a cube may hold."""


def nodule_cube(
    seed: int | Sequence[int],
    kind: str = "solid_smooth",
    size: int = 32,
    *,
    spacing: float = 1.0,
    diameter_mm: float | None = None,
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]:
    """Make a cube of lung around a nodule, or around something that is none.

    Args:
        seed: the same seed gives the same cube.
        kind: one of :data:`CUBE_KINDS`: ``solid_smooth``, ``solid_spiculated``, ``ground_glass_smooth``,
            ``ground_glass_spiculated``, ``vessel``, ``airway``, ``pleura``, ``scar``.
        size: voxels along each edge.
        spacing: voxel size in mm.
        diameter_mm: diameter of the ball of the nodule's volume; random between 6 and 16 if not given.

    Returns:
        The cube (size, size, size) int16 in HU with axes right, anterior, superior, and the nodule's mask, uint8 of the
        same shape, empty for the other kinds.

    Raises:
        ConfigError: if ``kind`` is not known.
    """
    if kind not in CUBE_KINDS:
        raise ConfigError(f"nodule_cube: unknown kind {kind!r}; choose one of {', '.join(CUBE_KINDS)}.")
    rng = np.random.default_rng(seed)
    canvas = Canvas((size, size, size), (spacing, spacing, spacing))
    canvas.hu += lung_texture(canvas, rng) - canvas.hu
    mask = np.zeros(canvas.shape, dtype=np.uint8)
    middle = rng.normal(0, 0.7, 3)
    for _ in range(int(rng.integers(1, 4))):
        paint_vessels(canvas, _passing_tree(rng, canvas, 5 * random_directions(rng) + middle, (0.8, 2.2)), 40.0)
    if kind in DISTRACTORS:
        _paint_distractor(canvas, rng, kind, middle)
    else:
        texture, margin = kind.rsplit("_", 1)
        diameter = float(np.exp(rng.uniform(np.log(6), np.log(16)))) if diameter_mm is None else diameter_mm
        shape = nodule_shape(rng, middle, diameter, margin)
        box, distance = paint_nodule(canvas, rng, shape, texture, nodule_hu(rng, texture))
        mask[box] = distance <= 0
    canvas.hu += np.float32(rng.uniform(12, 28)) * scanner_noise(rng, canvas.shape, 0.6)
    return np.rint(canvas.hu.clip(-1024, 3071)).astype(np.int16), mask


def _passing_tree(rng: np.random.Generator, canvas: Canvas, fork: npt.NDArray, radii: tuple[float, float]) -> Tree:
    """A tree that comes from outside the cube and has its first fork at ``fork`` (3,)."""
    reach = float(canvas.half_mm.max())
    heading = random_directions(rng)
    targets = heading * reach + rng.uniform(-reach, reach, (24, 3))
    tree = grow_tree(rng, np.zeros(3), targets, float(rng.uniform(*radii)))
    shift = fork - tree.end[0]
    stem = Tree(tree.start + shift, tree.end + shift, tree.radius, tree.parent)
    stem.start[0] -= heading * reach * 2
    return stem


def _paint_distractor(canvas: Canvas, rng: np.random.Generator, kind: str, middle: npt.NDArray) -> None:
    """Paint a structure that is no nodule in the middle of a cube."""
    if kind == "vessel":
        paint_vessels(canvas, _passing_tree(rng, canvas, middle, (1.6, 4.2)), float(rng.uniform(10, 60)))
    elif kind == "airway":
        paint_airways(canvas, _passing_tree(rng, canvas, middle, (2.0, 3.6)))
    elif kind == "pleura":
        inward, height = random_directions(rng), float(rng.uniform(3, 8))
        surface = middle - 0.5 * height * inward
        x, y, z = canvas.grid()
        low = inward.astype(np.float32)
        canvas.fill(x * low[0] + y * low[1] + z * low[2] - np.float32(surface @ inward), MUSCLE_HU)
        paint_bump(canvas, rng, surface, inward, height)
    else:
        paint_scar(canvas, rng, middle, float(rng.uniform(8, 18)))
