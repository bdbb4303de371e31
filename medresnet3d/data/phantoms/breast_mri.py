"""Phantom slices of contrast-enhanced breast MRI with and without a tumour, as a table of images lists them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medresnet3d.data.preparation.mimics import write_picture, write_table
from medresnet3d.data.preparation.prepare import prepare
from medresnet3d.errors import ConfigError

Array = npt.NDArray[Any]
CLASSES = ("no tumour", "tumour")


def breast_slice(
    seed: int | Sequence[int], tumour: bool, size: tuple[int, int] = (64, 64), *, difficulty: float = 0.5
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Draw an axial slice of one breast after contrast agent, fat suppressed.

    A tumour enhances strongly, more at its rim, and is irregular and spiculated. Every breast has bright things that
    are none: vessels, which are thin, and glandular tissue and round benign spots, which enhance less.

    Args:
        seed: the same seed draws the same slice.
        tumour: whether there is one.
        size: rows and columns.
        difficulty: 0: a tumour is twice as bright as anything else; 1: no brighter than glandular tissue.

    Returns:
        the slice, (rows, columns) uint8, and the mask of the tumour, (rows, columns), 0 or 1.

    Raises:
        ConfigError: if ``difficulty`` is outside of 0 to 1.
    """
    if not 0 <= difficulty <= 1:
        raise ConfigError(f"breast_slice: difficulty is {difficulty}; give 0 to 1.")
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(size)
    y, x = rows / size[0], (columns - size[1] / 2) / (size[1] / 2)
    depth = 0.85 - 0.8 * x**2 * rng.uniform(0.8, 1.1)  # of the skin below the chest wall, by column
    breast: Array = (y < depth) & (y > 0.12)
    gland = ndimage.gaussian_filter(breast.astype(float), 0.06 * size[0])
    gland *= 0.5 + 0.35 * _noise(rng, size, 0.05) + 0.3 * _noise(rng, size, 0.12)
    image: Array = np.where(breast, 0.14 + 0.2 * gland.clip(0, 1.2), 0.02)
    image += 0.25 * np.exp(-(((y - 0.1) / 0.03) ** 2))  # chest wall
    image += 0.18 * (breast & ~ndimage.binary_erosion(breast, iterations=max(1, size[0] // 40)))  # skin
    for _ in range(int(rng.integers(1, 4))):
        image += 0.35 * _vessel(rng, y, x) * breast
    for _ in range(int(rng.integers(0, 3))):
        image += 0.2 * _mass(rng, y, x, rng.uniform(0.03, 0.06), 0.0) * breast
    mask: Array = np.zeros(size)
    if tumour:
        mask = _mass(rng, y, x, rng.uniform(0.06, 0.11), 0.3)
        inner = ndimage.gaussian_filter(mask, 0.04 * size[0])
        image += (0.9 - 0.6 * difficulty) * mask * (1 - 0.4 * inner)
    image *= rng.uniform(0.8, 1.2) * (1 + rng.uniform(-0.25, 0.25) * x)  # receive coil
    noisy = np.hypot(image + rng.normal(0, 0.02, size), rng.normal(0, 0.02, size))  # Rician
    return np.rint(255 * noisy.clip(0, 1)).astype(np.uint8), ((mask > 0.5) & breast).astype(np.uint8)


def _noise(rng: np.random.Generator, size: tuple[int, int], scale: float) -> Array:
    values = ndimage.gaussian_filter(rng.normal(size=size), scale * size[0], mode="reflect")
    return np.asarray(values / (values.std() + 1e-12))


def _mass(rng: np.random.Generator, y: Array, x: Array, radius: float, irregular: float) -> Array:
    """Soft disc with an irregular outline, from 0 to 1."""
    middle = rng.uniform((0.28, -0.4), (0.62, 0.4))
    angle, away = np.arctan2(y - middle[0], (x - middle[1]) / 2), np.hypot(y - middle[0], (x - middle[1]) / 2)
    edge = 1 + irregular * sum(
        rng.normal(0, 0.35) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi)) for wave in (3, 5, 8)
    )
    return np.asarray(1 / (1 + np.exp((away / (radius * np.maximum(edge, 0.4)) - 1) / 0.12)))


def _vessel(rng: np.random.Generator, y: Array, x: Array) -> Array:
    """A thin bent line, from 0 to 1."""
    bend, slope, offset = rng.uniform(-0.3, 0.3), rng.uniform(-0.5, 0.5), rng.uniform(0.25, 0.6)
    return np.asarray(np.exp(-(((y - offset - slope * x * 0.3 - bend * x**2) / 0.015) ** 2)))


def write_breast_mri(
    folder: str | Path,
    training: int = 24,
    test: int = 12,
    seed: int = 0,
    *,
    size: tuple[int, int] = (64, 64),
    slices: int = 2,
    share: float = 0.5,
    difficulty: float = 0.5,
) -> Path:
    """Write phantom slices with a table of class, patient and part of the split, and prepare the manifest from it.

    Args:
        folder: created if absent.
        training: slices of the training part.
        test: slices of the test part.
        seed: the same seed writes the same files.
        size: rows and columns of each slice.
        slices: of each patient; all are of one class.
        share: of patients with a tumour.
        difficulty: see :func:`breast_slice`.

    Returns:
        the manifest, as ``medresnet3d data prepare csv`` writes it.

    Raises:
        ConfigError: if a part has not both classes.
    """
    folder = Path(folder)
    rows: list[tuple[object, ...]] = [("image", "label", "patient", "section")]
    for part, first, number in (("train", 0, training), ("test", 10_000, test)):
        patients = number // slices
        ill = round(share * patients)
        if not 0 < ill < patients:
            raise ConfigError(f"write_breast_mri: {patients} patients with a share of {share} have not both classes.")
        classes = np.random.default_rng([seed, first]).permutation(np.arange(patients) < ill)
        for patient, tumour in enumerate(classes.tolist(), start=first):
            for index in range(slices):
                name = f"images/p{patient:05d}_{index}.png"
                picture, _ = breast_slice([seed, patient, index], tumour, size, difficulty=difficulty)
                write_picture(folder / name, picture)
                rows.append((name, CLASSES[tumour], f"p{patient:05d}", part))
    write_table(folder / "slices.csv", rows)
    return prepare("csv", folder, folder / "manifest.json", task="classification", seed=seed).path
