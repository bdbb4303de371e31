"""Phantom cells under the microscope: blood smears as PBC has them, HEp-2 cells as ICPR 2012 and I3A have them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medresnet3d.data.phantoms.cohorts import as_phantoms
from medresnet3d.data.phantoms.hep2_patterns import hep2_cell
from medresnet3d.data.preparation.mimics import write_picture, write_table
from medresnet3d.data.preparation.prepare import prepare
from medresnet3d.errors import ConfigError
from medresnet3d.names import require_name

Array = npt.NDArray[np.float64]
Picture = npt.NDArray[np.uint8]

# of each kind: radius of the cell; of the nucleus, as a share of it; lobes of the nucleus; eosin and methylene blue in
# the cytoplasm; in its granules; how many there are
SIGNS: dict[str, tuple[float, ...]] = {
    "basophil": (0.42, 0.70, 2, 0.30, 0.35, 0.2, 1.3, 1.0),
    "eosinophil": (0.44, 0.60, 2, 0.45, 0.05, 1.2, 0.0, 1.0),
    "neutrophil": (0.44, 0.55, 4, 0.22, 0.05, 0.4, 0.1, 0.4),
    "ig": (0.48, 0.70, 1, 0.25, 0.20, 0.3, 0.5, 0.7),
    "lymphocyte": (0.32, 0.88, 1, 0.05, 0.70, 0.0, 0.0, 0.0),
    "monocyte": (0.52, 0.72, 2, 0.15, 0.40, 0.0, 0.1, 0.1),
    "erythroblast": (0.28, 0.60, 1, 0.30, 0.30, 0.0, 0.0, 0.0),
    "platelet": (0.14, 0.00, 0, 0.30, 0.30, 0.3, 0.6, 1.0),
}
LINEAGES = (
    ("basophil", "eosinophil", "neutrophil", "ig"),
    ("lymphocyte", "monocyte"),
    ("erythroblast",),
    ("platelet",),
)
STAINS = np.array([[0.40, 0.85, 0.45], [0.75, 0.62, 0.20]])
"""Optical density (red, green, blue) of eosin and of methylene blue."""

PREFIXES = {
    **{"basophil": ("BA",), "eosinophil": ("EO",), "erythroblast": ("ERB",), "ig": ("MMY", "MY", "PMY")},
    **{"lymphocyte": ("LY",), "monocyte": ("MO",), "neutrophil": ("BNE", "SNE"), "platelet": ("PLATELET",)},
}
ICPR2012 = ("homogeneous", "coarse_speckled", "fine_speckled", "nucleolar", "centromere", "cytoplasmatic")
I3A = {
    **{"Homogeneous": "homogeneous", "Speckled": "speckled", "Nucleolar": "nucleolar", "Centromere": "centromere"},
    **{"NuMem": "nuclear_membrane", "Golgi": "golgi"},
}


def blood_cell(
    seed: int | Sequence[int], kind: str, size: tuple[int, int] = (96, 96), *, difficulty: float = 0.3
) -> Picture:
    """Draw a nucleated cell or a platelet among red cells, in a smear that is stained with eosin and methylene blue.

    What tells a kind are the size of the cell and its nucleus, the lobes of the nucleus, the colour of the cytoplasm
    and of its granules. Red cells around it, the strength of the stains and the light say nothing.

    Args:
        seed: the same seed draws the same picture.
        kind: a key of :data:`SIGNS`, the eight kinds of PBC.
        size: rows and columns.
        difficulty: 0: the kinds differ as drawn by heart; 1: the kinds of one lineage do not differ, the lineages still
            do.

    Returns:
        the picture, (rows, columns, 3) uint8 RGB.

    Raises:
        ConfigError: for an unknown kind, or a ``difficulty`` outside of 0 to 1.
    """
    require_name("Kind of cell", kind, SIGNS)
    if not 0 <= difficulty <= 1:
        raise ConfigError(f"blood_cell: difficulty is {difficulty}; give 0 to 1.")
    rng = np.random.default_rng(seed)
    radius, nucleus, lobes, *colours = _signs(rng, kind, difficulty)
    y, x = _coordinates(size)
    centre = rng.uniform(-0.08, 0.08, 2)
    y, x = y - centre[0], x - centre[1]
    amounts = _red_cells(rng, y, x, radius)
    cell = _blob(rng, y, x, (0.0, 0.0), radius)
    granules = _grains(rng, size) < 0.45 * colours[4]
    for stain in range(2):
        inside = np.where(granules, max(colours[2 + stain], colours[stain]), colours[stain])
        amounts[stain] = np.where(cell, inside, amounts[stain])
    inner = _nucleus(rng, y, x, radius, nucleus, round(lobes)) & cell
    texture = 0.25 * ndimage.gaussian_filter(rng.normal(size=size), 1.0, mode="reflect") * 3
    amounts[0], amounts[1] = np.where(inner, 0.35, amounts[0]), np.where(inner, 1.35 + texture, amounts[1])
    return _developed(rng, amounts)


def _signs(rng: np.random.Generator, kind: str, difficulty: float) -> list[float]:
    own = np.array(SIGNS[kind])
    lineage = next(kinds for kinds in LINEAGES if kind in kinds)
    mean = np.mean([SIGNS[each] for each in lineage], axis=0)
    signs = own + difficulty * (mean - own)
    return [float(sign) for sign in signs * rng.normal(1, 0.08, signs.shape)]


def _coordinates(size: tuple[int, int]) -> tuple[Array, Array]:
    """Rows and columns as positions from the middle, in units of half the shorter edge."""
    half = min(size) / 2
    rows, columns = np.indices(size).astype(np.float64)
    return (rows - (size[0] - 1) / 2) / half, (columns - (size[1] - 1) / 2) / half


def _blob(
    rng: np.random.Generator, y: Array, x: Array, centre: Sequence[float] | Array, radius: float
) -> npt.NDArray[np.bool_]:
    """A disc that is not quite round."""
    angle = np.arctan2(y - centre[0], x - centre[1])
    edge = 1 + sum(rng.normal(0, 0.04) * np.cos(wave * angle + rng.uniform(0, 6.3)) for wave in (2, 3, 4))
    return np.asarray(np.hypot(y - centre[0], x - centre[1]) < radius * edge)


def _red_cells(rng: np.random.Generator, y: Array, x: Array, hole: float) -> list[Array]:
    """Eosin and methylene blue of plasma and red cells, which are paler in the middle and leave room for the cell."""
    eosin, blue = np.full(y.shape, 0.06), np.full(y.shape, 0.01)
    for centre in rng.uniform(-1.3, 1.3, (16, 2)):
        radius = rng.uniform(0.22, 0.28)
        if np.hypot(*centre) > hole + radius:
            reach = np.hypot(y - centre[0], x - centre[1]) / radius
            eosin = np.where(reach < 1, 0.28 + 0.14 * reach**2, eosin)
    return [eosin, blue]


def _grains(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    """Noise from 0 to 1, evenly distributed, with the size of granules."""
    noise = ndimage.gaussian_filter(rng.normal(size=size), min(size) / 90)
    return np.asarray(noise.ravel().argsort().argsort().reshape(size) / noise.size)


def _nucleus(
    rng: np.random.Generator, y: Array, x: Array, radius: float, share: float, lobes: int
) -> npt.NDArray[np.bool_]:
    """One round nucleus, or lobes on an arc that touch."""
    if lobes < 1:
        return np.zeros(y.shape, dtype=bool)
    if lobes == 1:
        return _blob(rng, y, x, rng.uniform(-0.1, 0.1, 2) * radius, share * radius)
    start, found = rng.uniform(0, 6.3), np.zeros(y.shape, dtype=bool)
    for lobe in range(lobes):
        angle = start + lobe * 4.2 / lobes
        centre = 0.5 * radius * np.array([np.sin(angle), np.cos(angle)])
        found |= _blob(rng, y, x, centre, 1.25 * share * radius / np.sqrt(lobes))
    return found


def _developed(rng: np.random.Generator, amounts: Sequence[Array]) -> Picture:
    """The picture of amounts of both stains, with the strength of the stains, the light and the noise of one smear."""
    strength = rng.uniform(0.85, 1.15, 2)
    soft = np.stack(
        [ndimage.gaussian_filter(each, 0.6) * factor for each, factor in zip(amounts, strength, strict=True)]
    )
    light = np.array([1.0, 0.98, 0.93]) * rng.uniform(0.92, 1.0, 3)
    picture = light * np.exp(-np.tensordot(soft.clip(0), STAINS, axes=(0, 0)))
    picture += rng.normal(0, 0.012, picture.shape)
    return np.rint(255 * picture.clip(0, 1)).astype(np.uint8)


def write_pbc(
    folder: str | Path, cells: int = 24, seed: int = 0, *, size: tuple[int, int] = (48, 48), difficulty: float = 0.3
) -> Path:
    """Write phantom cells as the official archive of PBC holds them, and prepare the manifest from it.

    Args:
        folder: created if absent.
        cells: how many; an eighth of each kind.
        seed: the same seed writes the same files.
        size: rows and columns of each picture.
        difficulty: see :func:`blood_cell`.

    Returns:
        the manifest, as ``medresnet3d data prepare pbc`` writes it, with two of its five folds for validation and test.

    Raises:
        ConfigError: if there are too few cells for all kinds.
    """
    if cells < len(SIGNS):
        raise ConfigError(f"write_pbc: {cells} cells cannot have all {len(SIGNS)} kinds; give more.")
    folder = Path(folder)
    for index in range(cells):
        kind = list(SIGNS)[index % len(SIGNS)]
        prefix = PREFIXES[kind][index // len(SIGNS) % len(PREFIXES[kind])]
        picture = blood_cell([seed, index], kind, size, difficulty=difficulty)
        write_picture(folder / "PBC_dataset_normal_DIB" / kind / f"{prefix}_{index}.jpg", picture)
    return as_phantoms(prepare("pbc", folder, folder / "manifest.json", seed=seed).path)


def write_icpr2012(
    folder: str | Path,
    training: int = 24,
    test: int = 12,
    seed: int = 0,
    *,
    size: int = 48,
    cells_per_image: int = 2,
    difficulty: float = 0.3,
) -> Path:
    """Write phantom HEp-2 cells as the ICPR 2012 contest has them (green on black), and prepare the manifest from it.

    Args:
        folder: created if absent.
        training: cells of the training part; a sixth of each pattern.
        test: cells of the test part.
        seed: the same seed writes the same files.
        size: pixels along each side.
        cells_per_image: cells of one specimen image, which have one pattern and one intensity.
        difficulty: see :func:`medresnet3d.data.phantoms.hep2_patterns.hep2_cell`.

    Returns:
        the manifest, as ``medresnet3d data prepare icpr2012`` writes it.

    Raises:
        ConfigError: if a part has too few cells for all patterns.
    """
    folder = Path(folder)
    contest: list[tuple[object, ...]] = [("id", "set", "image", "intensity", "id_in_image", "pattern", "x", "y")]
    for part, first, number in (("training", 0, training), ("test", 10_000, test)):
        _require_cells("write_icpr2012", number, len(ICPR2012))
        truth: list[tuple[object, ...]] = [("id", "pattern")]
        facts: list[tuple[object, ...]] = [("id", "intensity", "width", "height")]
        for index in range(number):
            image = index // cells_per_image
            pattern, is_weak = ICPR2012[image % len(ICPR2012)], image // len(ICPR2012) % 2 == 1
            intensity, strength = ("intermediate", 0.35) if is_weak else ("positive", 1.0)
            cell, mask = hep2_cell([seed, first + index], pattern, size, strength=strength, difficulty=difficulty)
            picture = np.stack([cell // 8, cell, cell // 8], axis=-1)
            write_picture(folder / part / f"{index + 1:03d}.png", picture)
            write_picture(folder / part / f"{index + 1:03d}_mask.png", 255 * mask)
            truth.append((index + 1, pattern))
            facts.append((index + 1, intensity, size, size))
            contest.append((len(contest), part, 1 + first + image, intensity, index % cells_per_image, pattern, 1, 1))
        write_table(folder / f"gt_{part}.csv", truth, separator=";")
        write_table(folder / f"{part}.csv", facts, separator=";")
    write_table(folder / "contest.csv", contest, separator=";")
    return prepare("icpr2012", folder, folder / "manifest.json", seed=seed).path


def write_i3a(
    folder: str | Path,
    cells: int = 24,
    seed: int = 0,
    *,
    size: int = 48,
    cells_per_specimen: int = 2,
    difficulty: float = 0.3,
) -> Path:
    """Write phantom HEp-2 cells as task 1 of I3A has them (grey), and prepare the manifest from it.

    Args:
        folder: created if absent.
        cells: how many; a sixth of each pattern.
        seed: the same seed writes the same files.
        size: pixels along each side.
        cells_per_specimen: cells of one specimen, which have one pattern and one strength of light.
        difficulty: see :func:`medresnet3d.data.phantoms.hep2_patterns.hep2_cell`.

    Returns:
        the manifest, as ``medresnet3d data prepare i3a`` writes it, with two of its five folds for validation and test.

    Raises:
        ConfigError: if there are too few cells for all patterns.
    """
    _require_cells("write_i3a", cells, len(I3A))
    folder = Path(folder)
    rows: list[tuple[object, ...]] = [("Id", "Image class", "Specimen ID")]
    for index in range(cells):
        specimen = index // cells_per_specimen
        label = list(I3A)[specimen % len(I3A)]
        strength = float(np.random.default_rng([seed, specimen, 1]).uniform(0.15, 0.8))
        cell, mask = hep2_cell([seed, index], I3A[label], size, strength=strength, difficulty=difficulty)
        write_picture(folder / "training" / f"{index + 1:05d}.png", cell)
        write_picture(folder / "training" / f"{index + 1:05d}_Mask.png", 255 * mask)
        rows.append((index + 1, label, 1 + specimen))
    write_table(folder / "gt_training.csv", rows)
    return as_phantoms(prepare("i3a", folder, folder / "manifest.json", seed=seed).path)


def _require_cells(writer: str, number: int, patterns: int) -> None:
    if number < patterns:
        raise ConfigError(f"{writer}: {number} cells cannot have all {patterns} patterns; give more.")
