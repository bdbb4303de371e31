"""Staining patterns of phantom HEp-2 cells in immunofluorescence: what antibodies of each kind light up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medresnet3d.errors import ConfigError
from medresnet3d.names import require_name

Array = npt.NDArray[np.float64]
Pattern = Callable[[np.random.Generator, Array, Array], Array]

NUCLEUS = 0.62
"""Mean radius of the nucleus, in units of half the picture; the cytoplasm reaches to 0.82."""

PLAIN = 0.55


def hep2_cell(
    seed: int | Sequence[int], pattern: str, size: int = 64, *, strength: float = 1.0, difficulty: float = 0.3
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Draw one cell in fluorescence.

    Args:
        seed: the same seed draws the same cell.
        pattern: a key of :data:`PATTERNS`.
        size: pixels along each side.
        strength: of the light: 1 in a strongly positive specimen, 0.2 to 0.4 in a weak one.
        difficulty: 0: the pattern stands out; 1: it has drowned in an evenly lit nucleus.

    Returns:
        the picture and the mask of the cell (0 or 1), both (size, size) uint8.

    Raises:
        ConfigError: for an unknown pattern, or a ``difficulty`` outside of 0 to 1.
    """
    if not 0 <= difficulty <= 1:
        raise ConfigError(f"hep2_cell: difficulty is {difficulty}; give 0 to 1.")
    rng = np.random.default_rng(seed)
    light, mask = draw_pattern(rng, pattern, size, difficulty)
    picture = 0.03 + 0.9 * strength * light + rng.normal(0, 0.012, light.shape)
    return np.rint(255 * picture.clip(0, 1)).astype(np.uint8), mask.astype(np.uint8)


def draw_pattern(
    rng: np.random.Generator, pattern: str, size: int, difficulty: float = 0.3
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Draw the light of one cell in the middle of a square, turned and stretched at random.

    Args:
        rng: what is random about it.
        pattern: a key of :data:`PATTERNS`.
        size: pixels along each side.
        difficulty: see :func:`hep2_cell`.

    Returns:
        the light, 0 (none) to about 1, and the mask of what is lit of the cell, both (size, size).

    Raises:
        ConfigError: for an unknown pattern.
    """
    draw = PATTERNS[require_name("Staining pattern", pattern, PATTERNS)]
    rows, columns = (2 * np.indices((size, size)) + 1) / size - 1
    turn, stretch = rng.uniform(0, 2 * np.pi), rng.uniform(1.0, 1.35)
    y = (rows * np.cos(turn) - columns * np.sin(turn)) * np.sqrt(stretch)
    x = (rows * np.sin(turn) + columns * np.cos(turn)) / np.sqrt(stretch)
    reach = np.hypot(y, x) / rng.uniform(0.92, 1.05)
    even = PLAIN * (reach < NUCLEUS)
    light = (1 - difficulty) * draw(rng, y, reach) + difficulty * even
    mask = reach < (0.82 if pattern in ("cytoplasmatic", "golgi") else NUCLEUS)
    return ndimage.gaussian_filter(light, size / 90), mask


def _texture(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> Array:
    """Smooth noise of unit variance; ``scale`` is a share of the picture."""
    noise = ndimage.gaussian_filter(rng.normal(size=shape), scale * shape[0], mode="wrap")
    return np.asarray(noise / noise.std())


def _spots(rng: np.random.Generator, reach: Array, number: int, radius: float, within: float) -> Array:
    """Light of round spots at random places inside a radius, 0 to 1."""
    rows, columns = np.indices(reach.shape)
    size, found = reach.shape[0], np.zeros(reach.shape)
    places = np.argwhere(reach < within)
    for row, column in rng.permutation(places)[:number]:
        away = np.hypot(rows - row, columns - column) / (radius * size)
        found = np.maximum(found, np.exp(-(away**2)))
    return found


def _speckled(scale: float, depth: float) -> Pattern:
    def draw(rng: np.random.Generator, y: Array, reach: Array) -> Array:
        speckles = PLAIN + depth * _texture(rng, reach.shape, scale)
        return np.asarray((reach < NUCLEUS) * speckles.clip(0.05, 1))

    return draw


def _homogeneous(rng: np.random.Generator, y: Array, reach: Array) -> Array:
    return np.asarray((reach < NUCLEUS) * (0.75 + 0.03 * _texture(rng, reach.shape, 0.08)))


def _nucleolar(rng: np.random.Generator, y: Array, reach: Array) -> Array:
    spots = _spots(rng, reach, int(rng.integers(2, 6)), 0.08, 0.7 * NUCLEUS)
    return np.asarray((reach < NUCLEUS) * (0.2 + 0.8 * spots))


def _centromere(rng: np.random.Generator, y: Array, reach: Array) -> Array:
    spots = _spots(rng, reach, int(rng.integers(30, 50)), 0.022, 0.92 * NUCLEUS)
    return np.asarray((reach < NUCLEUS) * (0.15 + 0.85 * spots))


def _nuclear_membrane(rng: np.random.Generator, y: Array, reach: Array) -> Array:
    rim = np.exp(-(((reach - 0.93 * NUCLEUS) / 0.06) ** 2))
    return np.asarray((reach < 1.05 * NUCLEUS) * (0.25 + 0.75 * rim))


def _golgi(rng: np.random.Generator, y: Array, reach: Array) -> Array:
    ring = np.where((reach > NUCLEUS) & (y > 0.3), reach, np.inf)
    return 0.1 * (reach < 0.82) + 0.9 * _spots(rng, ring, int(rng.integers(6, 12)), 0.05, 0.8)


def _cytoplasmatic(rng: np.random.Generator, y: Array, reach: Array) -> Array:
    fibres = (0.6 + 0.15 * _texture(rng, reach.shape, 0.03)).clip(0.2, 1)
    return np.asarray((reach < 0.82) * np.where(reach < 0.8 * NUCLEUS, 0.12, fibres))


def _mitotic_spindle(rng: np.random.Generator, y: Array, reach: Array) -> Array:
    x = np.sqrt((reach**2 - y**2).clip(0))
    poles = np.exp(-((np.hypot(np.abs(y) - 0.45, x) / 0.12) ** 2))
    fan = (np.abs(y) < 0.45) * (x < 0.5 * (0.5 - np.abs(y))) * 0.45
    return np.asarray(np.maximum(0.15 * (reach < NUCLEUS), np.maximum(poles, fan)))


PATTERNS: dict[str, Pattern] = {
    "homogeneous": _homogeneous,
    "speckled": _speckled(0.025, 0.22),
    "coarse_speckled": _speckled(0.045, 0.25),
    "fine_speckled": _speckled(0.015, 0.14),
    "nucleolar": _nucleolar,
    "centromere": _centromere,
    "nuclear_membrane": _nuclear_membrane,
    "golgi": _golgi,
    "cytoplasmatic": _cytoplasmatic,
    "mitotic_spindle": _mitotic_spindle,
}
"""A pattern gives the light of a cell from a random generator, a coordinate and the distance from the middle, both in
units of half the picture."""
