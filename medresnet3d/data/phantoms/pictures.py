"""Small synthetic pictures of skin, breast, eye and cells, with the truth about what is where.

They have what the transforms look for and no more: nothing can be learned from them about patients. Pictures are
(C, i, j) with i from the left and j from the top.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Skin:
    """A mole with hairs across.

    Attributes:
        picture: (3, size, size), uint8, in the light that was asked for.
        bare: the same without hairs.
        lesion: mask (size, size).
        hairs: mask (size, size).
    """

    picture: NDArray[np.uint8]
    bare: NDArray[np.uint8]
    lesion: Mask
    hairs: Mask


def skin(size: int = 160, hairs: int = 8, light: tuple[float, float, float] = (1.0, 1.0, 1.0), seed: int = 0) -> Skin:
    """A picture of skin.

    Args:
        size: pixels along each side.
        hairs: how many.
        light: colour of the light, by which red, green and blue are multiplied.
        seed: of shapes and noise.
    """
    random = np.random.default_rng(seed)
    x, y = _coordinates((size, size))
    angle = np.arctan2(y, x)
    radius = 0.45 + 0.05 * np.sin(3 * angle + random.uniform(0, 6)) + 0.03 * np.sin(5 * angle)
    lesion = np.hypot(x, y * 1.15) < radius
    soft = ndimage.gaussian_filter(lesion.astype(float), size / 100)
    texture = ndimage.gaussian_filter(random.normal(size=(size, size)), size / 60)
    texture *= 0.03 / texture.std()
    colours = np.array([[0.72, 0.55, 0.48], [0.36, 0.22, 0.17]])[:, :, None, None]
    bare = colours[0] * (1 - soft) + colours[1] * soft + texture
    mask = np.zeros((size, size), dtype=bool)
    for _ in range(hairs):
        turn, bend, offset = random.uniform(0, np.pi), random.uniform(-0.15, 0.15), random.uniform(-0.8, 0.8)
        along, across = x * np.cos(turn) + y * np.sin(turn), -x * np.sin(turn) + y * np.cos(turn)
        mask |= np.abs(across - offset - bend * along**2) < 1.0 / size * 2
    hairy = np.where(ndimage.gaussian_filter(mask.astype(float), 0.4) > 0.4, 0.08, bare)
    shade = np.array(light)[:, None, None]
    return Skin(_bytes(hairy * shade), _bytes(bare * shade), lesion, mask)


@dataclass(frozen=True, eq=False)
class Film:
    """A mammogram, oblique view.

    Attributes:
        film: (1, i, j), uint16 of 12 bits.
        breast: mask (i, j), muscle included.
        muscle: mask (i, j).
    """

    film: NDArray[np.uint16]
    breast: Mask
    muscle: Mask


def mammogram(shape: tuple[int, int] = (240, 320), side: str = "left", muscle: bool = True, seed: int = 0) -> Film:
    """A film with the breast at one side, pectoral muscle and a marker.

    Args:
        shape: columns and rows.
        side: of the chest wall, ``left`` or ``right``.
        muscle: whether the muscle is in view.
        seed: of texture and noise.
    """
    random = np.random.default_rng(seed)
    columns, rows = np.indices(shape)
    breast = (columns / (0.7 * shape[0])) ** 2 + ((rows - 0.5 * shape[1]) / (0.47 * shape[1])) ** 2 < 1
    wedge = columns / (0.42 * shape[0]) + rows / (0.6 * shape[1]) < 1
    breast |= wedge & (rows < 0.2 * shape[1])
    pectoral = wedge & breast if muscle else np.zeros(shape, dtype=bool)
    texture = ndimage.gaussian_filter(random.normal(size=shape), min(shape) / 40)
    tissue = 1400 + 120 * texture / texture.std()
    film = np.where(breast, np.clip(tissue, 700, None), 60.0)
    film = np.where(pectoral, 2600 + 80 * texture / texture.std(), film)
    film = ndimage.gaussian_filter(film, 1.5)
    film[int(0.85 * shape[0]) : int(0.95 * shape[0]), int(0.05 * shape[1]) : int(0.12 * shape[1])] = 3500
    film += random.normal(scale=15, size=shape)
    picture = np.clip(np.rint(film), 0, 4095).astype(np.uint16)
    if side == "right":
        picture, breast, pectoral = picture[::-1].copy(), breast[::-1].copy(), pectoral[::-1].copy()
    return Film(picture[None], breast, pectoral)


@dataclass(frozen=True, eq=False)
class Fundus:
    """A photograph of the back of an eye.

    Attributes:
        picture: (3, i, j), uint8.
        disc: what the camera sees, mask (i, j).
        vessels: mask (i, j).
    """

    picture: NDArray[np.uint8]
    disc: Mask
    vessels: Mask


def fundus(shape: tuple[int, int] = (300, 220), seed: int = 0) -> Fundus:
    """A lit disc on black, brighter at one side, with vessels and an optic nerve head.

    Args:
        shape: columns and rows.
        seed: of vessels and noise.
    """
    random = np.random.default_rng(seed)
    columns, rows = np.indices(shape).astype(float)
    x, y = (columns - 0.47 * shape[0]) / (0.44 * shape[1]), (rows - 0.5 * shape[1]) / (0.44 * shape[1])
    disc = np.hypot(x, y) < 1
    vessels = np.zeros(shape, dtype=bool)
    for bend in random.uniform(-1.2, 1.2, 8):
        vessels |= (np.abs(y - bend * (0.55 - x) ** 1.0 - 0.2 * bend * x**2) < 0.015) & (x < 0.55)
    vessels &= disc
    light = 0.55 + 0.35 * x
    colour = np.array([0.85, 0.45, 0.2])[:, None, None] * light
    colour = np.where(vessels, colour * np.array([0.75, 0.5, 0.6])[:, None, None], colour)
    nerve = np.hypot(x - 0.55, y) < 0.16
    colour = np.where(nerve, np.array([0.95, 0.85, 0.6])[:, None, None], colour)
    picture = ndimage.gaussian_filter(np.where(disc, colour, 0.0), (0, 0.7, 0.7))
    picture += random.normal(scale=0.006, size=picture.shape) * (picture > 0.02)
    return Fundus(_bytes(picture), disc, vessels)


def hep2_cell(size: int = 64, strength: float = 1.0, seed: int = 0) -> NDArray[np.uint8]:
    """A speckled HEp-2 cell in fluorescence, (1, size, size), uint8.

    Args:
        size: pixels along each side.
        strength: of the light; weakly lit cells have 0.2.
        seed: of the speckles.
    """
    random = np.random.default_rng(seed)
    x, y = _coordinates((size, size))
    cell = ndimage.gaussian_filter((np.hypot(x, y * 1.3) < 0.75).astype(float), 1.5)
    speckles = ndimage.gaussian_filter(random.normal(size=(size, size)), 1.2)
    return _bytes((0.05 + strength * cell * (0.5 + 0.15 * speckles / speckles.std()))[None])


def blood_smear(size: int = 128, seed: int = 0) -> NDArray[np.uint8]:
    """A leukocyte among red cells, (3, size, size), uint8, of two stains in known amounts.

    Args:
        size: pixels along each side.
        seed: of places and noise.
    """
    random = np.random.default_rng(seed)
    x, y = _coordinates((size, size))
    eosin, blue = np.full((size, size), 0.05), np.zeros((size, size))
    for a, b in random.uniform(-1, 1, (14, 2)):
        eosin = np.where(np.hypot(x - a, y - b) < 0.2, 0.55, eosin)
    eosin = np.where(np.hypot(x, y) < 0.48, 0.15, eosin)
    for a, b in ((-0.12, 0.08), (0.15, 0.1), (0.0, -0.16)):
        blue = np.where(np.hypot(x - a, y - b) < 0.2, 1.3, blue)
    amounts = np.stack([ndimage.gaussian_filter(each, 1.0) for each in (eosin, blue)])
    colours = np.array([[0.4, 0.85, 0.45], [0.75, 0.62, 0.2]]).T  # optical density of eosin and of methylene blue
    density = np.tensordot(colours, amounts, axes=1) + random.normal(scale=0.004, size=(3, size, size))
    return _bytes(np.exp(-np.maximum(density, 0)))


def _coordinates(shape: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions from -1 to 1."""
    x, y = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    return x, y


def _bytes(picture: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
