"""Phantom pictures of skin lesions, and a cohort of them in the official layout of ISIC 2016."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medresnet3d.data.preparation.mimics import write_picture, write_table
from medresnet3d.data.preparation.prepare import prepare
from medresnet3d.errors import ConfigError

LIGHT, DARK = np.array([235.0, 190.0, 170.0]), np.array([140.0, 90.0, 65.0])
BROWN, BLACK, BLUE_GREY, RED, PALE = (
    np.array(colour, dtype=float)
    for colour in ((110, 65, 40), (45, 32, 30), (95, 105, 125), (175, 75, 70), (225, 205, 170))
)
KINDS = ("nevus", "melanoma", "seborrheic keratosis")


def skin_lesion(
    seed: int | Sequence[int],
    malignant: bool,
    size: tuple[int, int] = (96, 128),
    *,
    difficulty: float = 0.5,
    keratosis: bool = False,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Draw a lesion on skin as a dermatoscope sees it.

    What tells a malignant lesion are asymmetry, an irregular border and several colours (black, blue-grey, red); a
    seborrheic keratosis has pale cysts and dark plugs instead, and may have any of those to some degree. Skin tone,
    size, place, light, hairs, a ruler and the dark rim of the lens are drawn alike for all classes, so that none of
    them says anything.

    Args:
        seed: the same seed draws the same picture.
        malignant: of which class.
        size: rows and columns.
        difficulty: 0: every sign is strong in malignant lesions and absent from benign ones; 1: no sign differs. In
            between the strengths of both classes overlap.
        keratosis: a seborrheic keratosis, which is benign.

    Returns:
        the picture, (rows, columns, 3) uint8 RGB, and the mask of the lesion, (rows, columns), 0 or 1.

    Raises:
        ConfigError: if ``difficulty`` is outside of 0 to 1.
    """
    if not 0 <= difficulty <= 1:
        raise ConfigError(f"skin_lesion: difficulty is {difficulty}; give 0 to 1.")
    rng = np.random.default_rng(seed)
    asymmetry, border, colours = _signs(rng, malignant or (keratosis and bool(rng.integers(2))), difficulty)
    picture = _skin(rng, size)
    distance = _outline(rng, size, asymmetry, border)
    soft = 1 / (1 + np.exp(distance / rng.uniform(0.02, 0.05)))
    lesion = _lesion_colour(rng, size, colours, distance)
    if keratosis:
        lesion = _cysts(rng, size, lesion, 1 - 0.7 * difficulty)
    picture += soft[..., None] * (lesion - picture)
    picture = _artefacts(rng, picture)
    noisy = picture + rng.normal(0, rng.uniform(2, 5), picture.shape)
    return np.rint(noisy.clip(0, 255)).astype(np.uint8), (distance < 0).astype(np.uint8)


def _signs(rng: np.random.Generator, malignant: bool, difficulty: float) -> npt.NDArray[np.float64]:
    """Strength of asymmetry, border irregularity and variety of colours, each 0 to 1."""
    mean = 0.5 + (0.4 if malignant else -0.4) * (1 - difficulty)
    spread = 0.05 + 0.25 * difficulty
    return rng.normal(mean, spread, 3).clip(0, 1)


def _skin(rng: np.random.Generator, size: tuple[int, int]) -> npt.NDArray[np.float64]:
    tone = rng.uniform(0, 1)
    base = LIGHT + tone * (DARK - LIGHT) + rng.normal(0, 8, 3)
    texture = _noise(rng, size, 2.0) * 6 + _noise(rng, size, max(size) / 3) * 10
    return np.broadcast_to(base, (*size, 3)) + texture[..., None]


def _noise(rng: np.random.Generator, size: tuple[int, int], scale: float) -> npt.NDArray[np.float64]:
    """Smooth noise of unit variance."""
    values = ndimage.gaussian_filter(rng.normal(size=size), scale, mode="reflect")
    return np.asarray(values / (values.std() + 1e-12))


def _outline(
    rng: np.random.Generator, size: tuple[int, int], asymmetry: float, border: float
) -> npt.NDArray[np.float64]:
    """Signed distance to the outline in units of the radius, negative inside."""
    short = min(size)
    radius = rng.uniform(0.2, 0.32) * short
    centre = np.array(size) / 2 + rng.uniform(-0.08, 0.08, 2) * short
    rows, columns = np.indices(size)
    y, x = (rows - centre[0]) / radius, (columns - centre[1]) / radius
    angle, length = np.arctan2(y, x), np.hypot(y, x)
    stretch = rng.uniform(0.0, 0.15)
    edge = 1 + stretch * np.cos(2 * (angle - rng.uniform(0, np.pi)))
    edge += 0.3 * asymmetry * np.cos(angle - rng.uniform(0, 2 * np.pi))
    for wave in range(4, 10):
        edge += 0.09 * border * rng.normal() * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    return np.asarray(length - edge.clip(0.4))


def _lesion_colour(
    rng: np.random.Generator, size: tuple[int, int], colours: float, distance: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    shade = rng.uniform(0.75, 1.3)
    lesion = BROWN * shade + 10 * _noise(rng, size, 1.5)[..., None] + 12 * distance.clip(-1, 0)[..., None]
    for colour in (BLACK, BLUE_GREY, RED):
        cloud = _noise(rng, size, min(size) / 14)
        weight = 0.9 * colours / (1 + np.exp(-4 * (cloud - 0.7)))
        lesion = lesion + weight[..., None] * (colour - lesion)
    return np.asarray(lesion)


def _cysts(
    rng: np.random.Generator, size: tuple[int, int], lesion: npt.NDArray[np.float64], strength: float
) -> npt.NDArray[np.float64]:
    """Pale cysts and dark plugs, small and round, all over a keratosis."""
    for colour, share in ((PALE, 0.012), (BLACK, 0.006)):
        seeds = np.where(rng.random(size) < share, 1.0, 0.0)
        spots = ndimage.gaussian_filter(seeds, min(size) / 64)
        weight = strength * np.clip(spots / (spots.max() + 1e-12) * 1.6, 0, 1)
        lesion = lesion + weight[..., None] * (colour - lesion)
    return lesion


def _artefacts(rng: np.random.Generator, picture: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Uneven light, hairs, a ruler and the rim of the lens, each in some pictures of either class."""
    size = picture.shape[:2]
    rows, columns = np.indices(size)
    light = (
        1 + 0.12 * rng.uniform(-1, 1) * (rows / size[0] - 0.5) + 0.12 * rng.uniform(-1, 1) * (columns / size[1] - 0.5)
    )
    picture = picture * light[..., None]
    for _ in range(int(rng.poisson(2))):
        bend, phase, slope = rng.uniform(-0.3, 0.3), rng.uniform(0, 1), rng.uniform(-1, 1)
        course = size[0] * (phase + slope * (columns / size[1]) + bend * (columns / size[1]) ** 2)
        hair = np.abs(rows - course) < 0.7
        picture[hair] = 0.35 * picture[hair]
    if rng.random() < 0.2:
        marks = (rows > 0.93 * size[0]) & (columns % max(4, size[1] // 16) == 0)
        picture[marks] = 30
    if rng.random() < 0.3:
        reach = np.hypot(rows / size[0] - 0.5, columns / size[1] - 0.5) / 0.5
        picture = picture * (1 / (1 + np.exp((reach - 1.15) / 0.04)))[..., None]
    return picture


def write_isic2016(
    folder: str | Path,
    training: int = 24,
    test: int = 12,
    seed: int = 0,
    *,
    size: tuple[int, int] = (96, 128),
    share: float = 0.5,
    difficulty: float = 0.5,
) -> Path:
    """Write phantom lesions as the official unpacking of ISIC 2016 holds them, and prepare the manifest from it.

    Args:
        folder: created if absent.
        training: pictures of the training part.
        test: pictures of the test part.
        seed: the same seed writes the same files.
        size: rows and columns of each picture.
        share: of malignant lesions (0.19 in the real set).
        difficulty: see :func:`skin_lesion`.

    Returns:
        the manifest, as ``medresnet3d data prepare isic2016`` writes it.

    Raises:
        ConfigError: if a part has too few pictures for both classes.
    """
    folder = Path(folder)
    for part, first, number, codes in (
        ("Training", 0, training, ("benign", "malignant")),
        ("Test", 10_000, test, ("0.0", "1.0")),
    ):
        malignant = round(share * number)
        if not 0 < malignant < number:
            raise ConfigError(f"write_isic2016: {number} pictures with a share of {share} have not both classes.")
        classes = np.random.default_rng([seed, first]).permutation(np.arange(number) < malignant)
        rows = []
        for index, positive in enumerate(classes.tolist(), start=first):
            name = f"ISIC_{index:07d}"
            picture, mask = skin_lesion([seed, index], positive, size, difficulty=difficulty)
            write_picture(folder / f"ISBI2016_ISIC_Part3_{part}_Data" / f"{name}.jpg", picture, quality=92)
            write_picture(folder / f"ISBI2016_ISIC_Part3B_{part}_Data" / f"{name}_Segmentation.png", 255 * mask)
            rows.append((name, codes[positive]))
        write_table(folder / f"ISBI2016_ISIC_Part3_{part}_GroundTruth.csv", rows)
    return prepare("isic2016", folder, folder / "manifest.json", task="melanoma", seed=seed).path


def write_isic2017(
    folder: str | Path,
    training: int = 24,
    validation: int = 12,
    test: int = 12,
    seed: int = 0,
    *,
    size: tuple[int, int] = (96, 128),
    difficulty: float = 0.5,
) -> Path:
    """Write phantom lesions as the official unpacking of ISIC 2017 holds them, and prepare the manifest from it.

    Args:
        folder: created if absent.
        training: pictures of the training part; a third each nevi, melanomas and seborrheic keratoses, in any order.
        validation: pictures of the validation part.
        test: pictures of the test part.
        seed: the same seed writes the same files.
        size: rows and columns of each picture.
        difficulty: see :func:`skin_lesion`.

    Returns:
        the manifest, as ``medresnet3d data prepare isic2017`` writes it.

    Raises:
        ConfigError: if a part has too few pictures for all classes.
    """
    folder = Path(folder)
    for part, first, number in (
        ("Training", 0, training),
        ("Validation", 10_000, validation),
        ("Test_v2", 20_000, test),
    ):
        if number < len(KINDS):
            raise ConfigError(f"write_isic2017: {number} pictures cannot have all of {', '.join(KINDS)}.")
        kinds = np.random.default_rng([seed, first]).permutation(np.arange(number) % len(KINDS))
        rows: list[tuple[object, ...]] = [("image_id", "melanoma", "seborrheic_keratosis")]
        for index, kind in enumerate(kinds.tolist(), start=first):
            name = f"ISIC_{index:07d}"
            picture, _ = skin_lesion([seed, index], kind == 1, size, difficulty=difficulty, keratosis=kind == 2)
            write_picture(folder / f"ISIC-2017_{part}_Data" / f"{name}.jpg", picture, quality=92)
            rows.append((name, float(kind == 1), float(kind == 2)))
        write_table(folder / f"ISIC-2017_{part}_Part3_GroundTruth.csv", rows)
    return prepare("isic2017", folder, folder / "manifest.json", seed=seed).path
