"""Phantom mammograms, and cohorts of them in the official layouts of CBIS-DDSM, INbreast and mini-MIAS.

A mass tells what it is by its margin alone: smooth in a benign one, spiculated in a malignant one. The density of a
breast is the share of it that is bright. Exposure, size, place and texture say nothing of either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medresnet3d.data.phantoms.cohorts import as_phantoms
from medresnet3d.data.preparation.mimics import write_picture, write_table
from medresnet3d.data.preparation.prepare import prepare
from medresnet3d.data.preparation.radiographs import mask_box, write_mammogram
from medresnet3d.errors import ConfigError
from medresnet3d.io.atomic import atomic_write_text

BITS = 12
AIR, FAT, GLAND, MASS = 120.0, 1300.0, 2100.0, 600.0
#: Mean share of bright tissue in densities 1 to 4 (A to D).
GLANDULAR = (0.08, 0.33, 0.58, 0.85)
Pixels = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Film:
    """A mammogram (CC view) and the truth about it.

    Attributes:
        pixels: (rows, columns), uint16 of 12 bits, bright where dense.
        breast: mask (rows, columns).
        mass: mask (rows, columns), empty without a mass.
    """

    pixels: NDArray[np.uint16]
    breast: NDArray[np.bool_]
    mass: NDArray[np.bool_]


def breast_film(
    seed: int | Sequence[int],
    size: tuple[int, int] = (96, 72),
    *,
    malignant: bool | None = None,
    density: int = 2,
    side: str = "left",
    difficulty: float = 0.5,
) -> Film:
    """Draw a film with one breast.

    Args:
        seed: the same seed draws the same film.
        size: rows and columns.
        malignant: margin of the mass: spiculated or smooth; ``None``: there is no mass.
        density: 1 to 4, the share of bright tissue.
        side: border at which the chest wall lies, ``left`` or ``right``.
        difficulty: 0: classes differ as much as they can; 1: not at all.

    Raises:
        ConfigError: if ``difficulty`` is outside of 0 to 1, or the density of 1 to 4.
    """
    if not 0 <= difficulty <= 1 or density not in (1, 2, 3, 4):
        raise ConfigError(
            f"breast_film: difficulty is {difficulty} and density {density}; give 0 to 1, and 1, 2, 3 or 4."
        )
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(size)
    x, y = columns / (rng.uniform(0.75, 0.9) * size[1]), (rows / size[0] - 0.5) / rng.uniform(0.4, 0.48)
    breast = x**2 + y**2 < 1
    tissue = _tissue(rng, breast, density, difficulty)
    mass = np.zeros(size, dtype=bool)
    if malignant is not None:
        distance, radius = _mass(rng, size, malignant, difficulty)
        tissue += MASS * rng.uniform(0.8, 1.2) / (1 + np.exp(distance / 0.06))
        mass = (distance < 0) & breast
        tissue += MASS * _spicules(rng, size, distance, radius) * _strength(rng, malignant, difficulty)
    exposure = rng.uniform(0.85, 1.1)
    edge = ndimage.gaussian_filter(breast.astype(float), 0.8)
    film = AIR + edge * exposure * (tissue - AIR) + rng.normal(0, 30, size)
    pixels = np.rint(film.clip(0, 2**BITS - 1)).astype(np.uint16)
    if side == "right":
        return Film(pixels[:, ::-1].copy(), breast[:, ::-1].copy(), mass[:, ::-1].copy())
    return Film(pixels, breast, mass)


def _noise(rng: np.random.Generator, size: tuple[int, int], scale: float) -> Pixels:
    values = ndimage.gaussian_filter(rng.normal(size=size), scale, mode="reflect")
    return np.asarray(values / (values.std() + 1e-12))


def _tissue(rng: np.random.Generator, breast: NDArray[np.bool_], density: int, difficulty: float) -> Pixels:
    """Fat with glandular tissue in a share of the breast that its density says."""
    middle = float(np.mean(GLANDULAR))
    share = middle + (GLANDULAR[density - 1] - middle) * (1 - difficulty) + rng.normal(0, 0.02 + 0.15 * difficulty)
    clouds = _noise(rng, breast.shape, min(breast.shape) / 14)
    limit = np.quantile(clouds[breast], 1 - np.clip(share, 0.02, 0.98))
    gland = 1 / (1 + np.exp(-(clouds - limit) / 0.15))
    return np.asarray(FAT + gland * (GLAND - FAT) + 60 * _noise(rng, breast.shape, 1.0))


def _strength(rng: np.random.Generator, malignant: bool, difficulty: float) -> float:
    """How spiculated a mass is, 0 to 1; the classes overlap the more the harder."""
    mean = 0.5 + (0.45 if malignant else -0.45) * (1 - difficulty)
    return float(np.clip(rng.normal(mean, 0.03 + 0.2 * difficulty), 0, 1))


def _mass(rng: np.random.Generator, size: tuple[int, int], malignant: bool, difficulty: float) -> tuple[Pixels, float]:
    """Signed distance to the outline of a mass in units of its radius, negative inside, and the radius in pixels."""
    radius = rng.uniform(0.13, 0.17) * min(size)
    centre = np.array([rng.uniform(0.38, 0.62) * size[0], rng.uniform(0.28, 0.48) * size[1]])
    rows, columns = np.indices(size)
    y, x = (rows - centre[0]) / radius, (columns - centre[1]) / radius
    angle = np.arctan2(y, x)
    edge = 1 + rng.uniform(0, 0.12) * np.cos(2 * (angle - rng.uniform(0, np.pi)))
    rough = 0.12 * _strength(rng, malignant, difficulty)
    for wave in range(5, 10):
        edge += rough * rng.normal() * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    return np.asarray(np.hypot(x, y) - edge.clip(0.5)), float(radius)


def _spicules(rng: np.random.Generator, size: tuple[int, int], distance: Pixels, radius: float) -> Pixels:
    """Thin bright rays out of a mass, 0 to 1."""
    middle = np.unravel_index(int(distance.argmin()), size)
    rows, columns = np.indices(size)
    rays = np.zeros(size)
    for angle in rng.permutation(12)[:9] * (np.pi / 6) + rng.uniform(-0.15, 0.15, 9):
        along = (rows - middle[0]) * np.sin(angle) + (columns - middle[1]) * np.cos(angle)
        across = (columns - middle[1]) * np.sin(angle) - (rows - middle[0]) * np.cos(angle)
        reach = radius * rng.uniform(1.7, 2.3)
        width = max(0.6, 0.1 * radius)
        rays = np.maximum(rays, np.exp(-((across / width) ** 2)) * ((along > 0) & (along < reach)))
    return rays


def write_cbis_ddsm(
    folder: str | Path,
    training: int = 24,
    test: int = 8,
    seed: int = 0,
    *,
    size: tuple[int, int] = (96, 72),
    task: str = "lesion",
    difficulty: float = 0.3,
) -> Path:
    """Write phantom films with a mass each as CBIS-DDSM holds them (DICOM of 16 bits), and prepare the manifest.

    Args:
        folder: created if absent.
        training: patients of the training part, one film each; as many malignant as benign.
        test: patients of the test part.
        seed: the same seed writes the same files.
        size: rows and columns of each film.
        task: of the collection: ``lesion``, ``finding``, ``pathology``, ``density`` or ``findings``.
        difficulty: see :func:`breast_film`.

    Returns:
        the manifest, as ``medresnet3d data prepare cbis_ddsm`` writes it.
    """
    folder = Path(folder)
    head = ["patient_id", "breast_density", "left or right breast", "image view", "abnormality id", "abnormality type"]
    head += ["assessment", "pathology", "image file path", "cropped image file path", "ROI mask file path"]
    for part, word, first, number in (("train", "Training", 1, training), ("test", "Test", 10_001, test)):
        malignant = np.random.default_rng([seed, first]).permutation(np.arange(number) % 2 == 0).tolist()
        rows: list[list[object]] = [[*head]]
        for index, positive in enumerate(malignant, first):
            side = "left" if index % 2 else "right"
            density = 1 + index // 2 % 4
            film = breast_film(
                [seed, index], size, malignant=positive, density=density, side=side, difficulty=difficulty
            )
            name = f"Mass-{word}_P_{index:05d}_{side.upper()}_CC"
            _write_finding(folder / "CBIS-DDSM", name, film)
            series = f"{name}_1/1.3.6.1.4.1.9590/1.3.6.1.4.1.9590.{index}"
            files = [f"{name}/1.3.6.1/1.3.6/000000.dcm", f"{series}/000001.dcm", f"{series}/000000.dcm\n"]
            facts = [f"P_{index:05d}", density, side.upper(), "CC", 1, "mass", 5 if positive else 3]
            rows.append([*facts, "MALIGNANT" if positive else "BENIGN", *files])
        write_table(folder / f"mass_case_description_{part}_set.csv", rows)
    options = {"finding": "mass"}
    return prepare("cbis_ddsm", folder, folder / "manifest.json", task=task, seed=seed, options=options).path


def _write_finding(base: Path, name: str, film: Film) -> None:
    """The film, and beside it crop and mask of its mass."""
    pixels = (16 * film.pixels).astype(np.uint16)
    x0, y0, x1, y1 = mask_box(film.mass)
    write_mammogram(base / name / "07-20-2016-DDSM-1" / "1.000000-full mammogram images-1" / "1-1.dcm", pixels)
    roi = base / f"{name}_1" / "07-20-2016-DDSM-2" / "1.000000-ROI mask images-2"
    write_mammogram(roi / "1-1.dcm", pixels[y0:y1, x0:x1])
    write_mammogram(roi / "1-2.dcm", (255 * film.mass).astype(np.uint16))


def write_inbreast(
    folder: str | Path,
    women: int = 20,
    seed: int = 0,
    *,
    size: tuple[int, int] = (96, 72),
    task: str = "malignancy",
    difficulty: float = 0.3,
) -> Path:
    """Write phantom films of both breasts as INbreast holds them (DICOM of 12 bits), and prepare the manifest.

    Every woman has one density and one BI-RADS: 1 (no mass), 2 (a smooth one) or 5 (a spiculated one).

    Args:
        folder: created if absent.
        women: with two films each.
        seed: the same seed writes the same files.
        size: rows and columns of each film.
        task: of the collection: ``malignancy``, ``density`` or ``findings``.
        difficulty: see :func:`breast_film`.

    Returns:
        the manifest, with validation and test lists by woman.
    """
    folder = Path(folder)
    base = folder / "INbreast Release 1.0"
    head = ["Patient ID", "Patient age", "Laterality", "View", "Acquisition date", "File Name", "ACR", "Bi-Rads"]
    rows: list[list[object]] = [[*head]]
    rng = np.random.default_rng([seed, women])
    malignant = rng.permutation(np.arange(women) % 2 == 0).tolist()
    densities = rng.permutation(1 + np.arange(women) % 4).tolist()
    for woman, (positive, density) in enumerate(zip(malignant, densities, strict=True)):
        empty = not positive and bool(rng.integers(2))
        for breast, side in enumerate(("left", "right")):
            name, letter = 20586908 + 2 * woman + breast, side[0].upper()
            mass = None if empty else bool(positive)
            film = breast_film(
                [seed, woman, breast], size, malignant=mass, density=density, side=side, difficulty=difficulty
            )
            place = base / "AllDICOMs" / f"{name}_{woman:016x}_MG_{letter}_CC_ANON.dcm"
            write_mammogram(place, film.pixels, bits=BITS, window=(2 ** (BITS - 1), 2**BITS))
            birads = 5 if positive else 1 if empty else 2
            rows.append(["removed", "removed", letter, "CC", "201001", name, density, birads])
    write_table(base / "INbreast.csv", rows, separator=";")
    return as_phantoms(prepare("inbreast", folder, folder / "manifest.json", task=task, seed=seed).path)


def write_mini_mias(
    folder: str | Path,
    women: int = 20,
    seed: int = 0,
    *,
    size: int = 96,
    task: str = "lesion",
    difficulty: float = 0.3,
) -> Path:
    """Write phantom films of both breasts as mini-MIAS holds them (PGM of 8 bits), and prepare the manifest.

    Args:
        folder: created if absent.
        women: with two films each, of which the first has a mass.
        seed: the same seed writes the same files.
        size: rows and columns of each film (1024 in the real set, to which the places in the table refer).
        task: of the collection: ``lesion``, ``severity``, ``malignancy``, ``density`` or ``findings``.
        difficulty: see :func:`breast_film`.

    Returns:
        the manifest, with validation and test lists by woman.
    """
    folder = Path(folder) / "all-mias"
    rng = np.random.default_rng([seed, women, 2])
    malignant = rng.permutation(np.arange(women) % 2 == 0).tolist()
    lines = ["REFNUM BG CLASS SEVERITY X Y RADIUS", ""]
    for number in range(1, 2 * women + 1):
        woman, second = divmod(number - 1, 2)
        density = 1 + woman % 3
        mass = None if second else bool(malignant[woman])
        side = "left" if second else "right"
        film = breast_film(
            [seed, number], (size, size), malignant=mass, density=density, side=side, difficulty=difficulty
        )
        write_picture(folder / f"mdb{number:03d}.pgm", (film.pixels >> (BITS - 8)).astype(np.uint8))
        row = f"mdb{number:03d} {'FGD'[density - 1]}"
        if mass is None:
            lines.append(f"{row} NORM")
        else:
            x0, y0, x1, y1 = (1024 / size * corner for corner in mask_box(film.mass))
            place = f"{(x0 + x1) / 2:.0f} {1024 - (y0 + y1) / 2:.0f} {max(x1 - x0, y1 - y0) / 2:.0f}"
            lines.append(f"{row} {'SPIC M' if mass else 'CIRC B'} {place}")
    atomic_write_text(folder / "Info.txt", "\n".join(lines) + "\n")
    return as_phantoms(prepare("mini_mias", folder, folder.parent / "manifest.json", task=task, seed=seed).path)
