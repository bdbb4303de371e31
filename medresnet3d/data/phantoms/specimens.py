"""Phantom HEp-2 specimens in immunofluorescence: fields of many cells with masks, in the layout of I3A task 2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medresnet3d.data.phantoms.cohorts import as_phantoms
from medresnet3d.data.phantoms.hep2_patterns import draw_pattern
from medresnet3d.data.preparation.mimics import write_picture, write_table
from medresnet3d.data.preparation.prepare import prepare
from medresnet3d.errors import ConfigError
from medresnet3d.names import require_name

I3A = {
    **{"Homogeneous": "homogeneous", "Speckled": "speckled", "Nucleolar": "nucleolar", "Centromere": "centromere"},
    **{"Golgi": "golgi", "NuMem": "nuclear_membrane", "MitSp": "mitotic_spindle"},
}
"""The classes of I3A task 2, and the pattern of each."""
FIELDS = 4
LEAST_SPECIMENS = 3
Picture = npt.NDArray[np.uint8]


def specimen_field(
    seed: int | Sequence[int],
    pattern: str,
    size: tuple[int, int] = (96, 128),
    *,
    cell: int = 20,
    cover: float = 0.25,
    strength: float = 1.0,
    difficulty: float = 0.3,
) -> tuple[Picture, Picture]:
    """Draw a field of view of one specimen: cells of one pattern at random places, some cut off by the border.

    The haze of what lies out of focus around cells, the light's fall to one side and noise make the background of one
    place as bright as the cells of another, so that no threshold for all of the field finds them.

    Args:
        seed: the same seed draws the same field.
        pattern: a key of :data:`medresnet3d.data.phantoms.hep2_patterns.PATTERNS`.
        size: rows and columns.
        cell: pixels along each side of the square that a cell lies in.
        cover: number of cells times their square, as a share of the field.
        strength: of the light: 1 in a strongly positive specimen, 0.2 to 0.4 in a weak one.
        difficulty: 0: the light is even and there is no haze; 1: haze and fall of the light are as strong as the cells.

    Returns:
        the picture and the mask of its cells (0 or 1), both (rows, columns) uint8.

    Raises:
        ConfigError: for an unknown pattern, a ``difficulty`` outside of 0 to 1, or a field smaller than a cell.
    """
    require_name("Staining pattern", pattern, set(I3A.values()))
    if not 0 <= difficulty <= 1 or min(size) < cell:
        raise ConfigError(
            f"specimen_field: size {size}, cell {cell}, difficulty {difficulty}; give 0 to 1, cell <= size."
        )
    rng = np.random.default_rng(seed)
    wide = (size[0] + 2 * cell, size[1] + 2 * cell)  # cells may lie across the border
    light, mask = np.zeros(wide), np.zeros(wide, dtype=bool)
    for _ in range(max(2, round(cover * size[0] * size[1] / cell**2))):
        row, column = rng.integers(cell // 2, (wide[0] - 3 * cell // 2, wide[1] - 3 * cell // 2))
        place = (slice(row, row + cell), slice(column, column + cell))
        drawn, inside = draw_pattern(rng, pattern, cell, 0.2)
        if not mask[place].any():  # cells of a monolayer do not overlap
            light[place] += rng.uniform(0.7, 1.0) * drawn
            mask[place] |= inside
    haze = ndimage.gaussian_filter(mask.astype(float), 0.6 * cell)
    clouds = ndimage.gaussian_filter(rng.normal(size=wide), 1.5 * cell)
    background = 0.8 * haze + 0.25 * (1 + clouds / clouds.std()).clip(0)
    rows, columns = (2 * np.indices(wide)[axis] / wide[axis] - 1 for axis in (0, 1))
    angle = rng.uniform(0, 2 * np.pi)
    fall = 1 - 0.45 * difficulty * (1 + rows * np.sin(angle) + columns * np.cos(angle)).clip(0, 2)
    seen = 0.03 + 0.9 * strength * fall * (light + difficulty * background) + rng.normal(0, 0.012, wide)
    inner = (slice(cell, -cell), slice(cell, -cell))
    return np.rint(255 * seen[inner].clip(0, 1)).astype(np.uint8), mask[inner].astype(np.uint8)


def write_specimens(
    folder: str | Path,
    specimens: int = 7,
    seed: int = 0,
    *,
    size: tuple[int, int] = (96, 128),
    cell: int = 20,
    difficulty: float = 0.3,
    task: str = "cells",
) -> Path:
    """Write phantom specimens as I3A's task 2 holds them, four fields each, and prepare the manifest from it.

    Args:
        folder: created if absent.
        specimens: how many; the seven classes take turns.
        seed: the same seed writes the same files.
        size: rows and columns of each field.
        cell: see :func:`specimen_field`.
        difficulty: see there.
        task: of the manifest: ``cells`` (masks) or ``pattern`` (classes).

    Returns:
        the manifest, as ``medresnet3d data prepare i3a_specimens`` writes it, with two of its folds for validation and
        test.

    Raises:
        ConfigError: if there are fewer than three specimens.
    """
    if specimens < LEAST_SPECIMENS:
        raise ConfigError(f"write_specimens: {specimens} specimens cannot be split in three; give more.")
    folder = Path(folder)
    rows: list[tuple[object, ...]] = [("Specimen ID", "Class")]
    for number in range(specimens):
        name = list(I3A)[number % len(I3A)]
        strength = float(np.random.default_rng([seed, number]).uniform(0.4, 1.0))
        for field in range(1, FIELDS + 1):
            own = [seed, number, field]
            picture, mask = specimen_field(own, I3A[name], size, cell=cell, strength=strength, difficulty=difficulty)
            write_picture(folder / "training" / f"{number + 1:03d}_p{field}.png", picture)
            write_picture(folder / "training" / f"{number + 1:03d}_p{field}_mask.png", 255 * mask)
        rows.append((number + 1, name))
    write_table(folder / "gt_training.csv", rows)
    manifest = folder / "manifest.json"
    folds = min(5, specimens)
    return as_phantoms(prepare("i3a_specimens", folder, manifest, task=task, folds=folds, seed=seed).path)
