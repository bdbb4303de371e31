"""Synthetic abdominal CT with thirteen labelled organs, of any size and at any place of the trunk.

The labels are those of the public multi-organ data sets (BTCV, AMOS). The shapes are drawn, not simulated: ellipsoids
and tubes in a waving trunk with fat, muscle, spine and lungs, on a table, with a scanner's blur and noise. Good for
tests and timing, never for claims about real organs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

ORGANS = (
    "background",
    "spleen",
    "right kidney",
    "left kidney",
    "gallbladder",
    "oesophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior vena cava",
    "portal and splenic veins",
    "pancreas",
    "right adrenal gland",
    "left adrenal gland",
)
"""Name of each label; the number is the position."""

Array = npt.NDArray[np.float32]
_SLAB = 32  # slices drawn at once
_FAR = 3000.0  # mm: beyond any volume
_SPREAD = 4.0  # HU by which an organ of a patient is brighter or darker at most


@dataclass(frozen=True)
class OrganPhantom:
    """One synthetic scan.

    Attributes:
        image: HU (i, j, k), int16; the axes are right, anterior, superior.
        labels: position in :data:`ORGANS` (i, j, k), uint8.
        affine: (4, 4) to millimetres in RAS+; the origin is in front of the first lumbar vertebra.
    """

    image: npt.NDArray[np.int16]
    labels: npt.NDArray[np.uint8]
    affine: npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Part:
    """An ellipsoid (``end`` is ``None``) or a tube of radius ``radii[0]`` from ``start`` to ``end``, in mm."""

    label: int
    hu: float
    start: tuple[float, float, float]
    radii: tuple[float, float, float]
    end: tuple[float, float, float] | None = None


def _tube(
    label: int, hu: float, start: tuple[float, float, float], end: tuple[float, float, float], radius: float
) -> _Part:
    return _Part(label, hu, start, (radius, radius, radius), end)


_TRUNK = (
    _Part(0, -850, (75, 5, 210), (62, 85, 115)),
    _Part(0, -850, (-75, 5, 210), (58, 85, 115)),
    _tube(0, 320, (0, -68, -_FAR), (0, -68, _FAR), 22),
    _tube(0, 40, (0, -92, -_FAR), (0, -92, _FAR), 9),
)
_ORGANS = (
    _Part(6, 108, (72, 12, 38), (84, 72, 70)),
    _Part(6, 108, (0, 48, 55), (58, 34, 36)),
    _Part(1, 130, (-104, -42, 48), (34, 32, 52)),
    _Part(7, 238, (-62, 42, 48), (44, 34, 50)),
    _Part(7, -900, (-58, 62, 60), (20, 9, 22)),
    _Part(2, 182, (66, -52, -34), (28, 26, 54)),
    _Part(3, 199, (-66, -52, -18), (28, 26, 56)),
    _Part(4, 2, (58, 62, -8), (16, 18, 27)),
    _tube(5, 24, (-14, -16, 72), (-6, -24, _FAR), 9),
    _tube(9, 148, (20, -34, -_FAR), (20, -20, 110), 13),
    _tube(8, 217, (-14, -38, -_FAR), (-12, -40, _FAR), 12),
    _tube(11, 87, (38, 12, -18), (-8, 18, 4), 14),
    _tube(11, 87, (-8, 18, 4), (-74, -14, 30), 11),
    _tube(10, 166, (42, 8, 28), (-8, -2, 6), 7),
    _tube(10, 166, (-8, -2, 6), (-90, -34, 44), 5),
    _Part(12, 66, (44, -42, 36), (6, 13, 15)),
    _Part(13, 52, (-44, -42, 34), (6, 13, 15)),
)
"""Every organ has a brightness of its own, 14 to 21 HU from the next, so that a small network can learn them."""


class _Patient:
    """Where one patient's shapes are."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.half = (rng.uniform(160, 178), rng.uniform(108, 122))
        self.wave = rng.uniform(0, 2 * np.pi, 4)
        self.parts = (*_TRUNK, *(_varied(part, rng) for part in _ORGANS))

    def draw(self, axes: Sequence[Array]) -> tuple[Array, npt.NDArray[np.uint8]]:
        """HU without blur or noise and labels on a grid of x, y, z in mm."""
        x, y, z = axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]
        hu = np.full((len(axes[0]), len(axes[1]), len(axes[2])), -1000, dtype=np.float32)
        labels = np.zeros(hu.shape, dtype=np.uint8)
        outline = ((np.abs(x) / self.half[0]) ** 2.5 + (np.abs(y + 5) / self.half[1]) ** 2.5)[..., 0]
        hu[outline < 1] = -95
        hu[outline < 0.72] = 45
        hu[outline < 0.6] = -70
        hu[:, np.abs(axes[1] + self.half[1] + 14) < 4] = -120
        wave = (
            5 * np.sin(y / 30 + self.wave[0]) + 3 * np.sin(z / 22 + self.wave[1]),
            4 * np.sin(x / 34 + self.wave[2]) + 3 * np.sin(z / 26 + self.wave[3]),
        )
        for part in self.parts:
            _paint(part, axes, wave, hu, labels)
        return hu, labels


def _varied(part: _Part, rng: np.random.Generator) -> _Part:
    """The same organ in another patient: a little moved, larger or smaller, brighter or darker."""
    shift, scale = rng.uniform(-5, 5, 3), rng.uniform(0.9, 1.1, 3)
    start = tuple(float(v) for v in np.add(part.start, shift))
    end = None if part.end is None else tuple(float(v) for v in np.add(part.end, shift))
    radii = tuple(float(v) for v in np.multiply(part.radii, scale))
    return _Part(part.label, part.hu + float(rng.uniform(-_SPREAD, _SPREAD)), start, radii, end)  # type: ignore[arg-type]


def _paint(
    part: _Part, axes: Sequence[Array], wave: tuple[Array, Array], hu: Array, labels: npt.NDArray[np.uint8]
) -> None:
    """Set the voxels of one part; ``wave`` (broadcastable, mm) is added to x and y."""
    corners = np.array([part.start, part.start if part.end is None else part.end])
    reach = np.add(part.radii, (10, 10, 1))
    low, high = corners.min(0) - reach, corners.max(0) + reach
    box = tuple(
        slice(int(np.searchsorted(axis, first)), int(np.searchsorted(axis, last, "right")))
        for axis, first, last in zip(axes, low, high, strict=True)
    )
    if any(piece.start >= piece.stop for piece in box):
        return
    x, y, z = axes[0][box[0], None, None], axes[1][None, box[1], None], axes[2][None, None, box[2]]
    x = x + wave[0][:, box[1]][..., box[2]]
    y = y + wave[1][box[0]][..., box[2]]
    inside = _inside(part, x, y, z)
    hu[box][inside] = part.hu
    labels[box][inside] = part.label


def _inside(part: _Part, x: Array, y: Array, z: Array) -> npt.NDArray[np.bool_]:
    """Which points (broadcastable coordinates in mm) lie in the part."""
    offsets = [axis - np.float32(origin) for axis, origin in zip((x, y, z), part.start, strict=True)]
    if part.end is None:
        square = sum((o / np.float32(r)) ** 2 for o, r in zip(offsets, part.radii, strict=True))
        return np.asarray(square < 1)
    along = np.subtract(part.end, part.start).astype(np.float32)
    length2 = float(along @ along)
    t = np.clip(sum(o * a for o, a in zip(offsets, along, strict=True)) / np.float32(length2), 0, 1)
    square = sum((o - t * a) ** 2 for o, a in zip(offsets, along, strict=True))
    return np.asarray(square < np.float32(part.radii[0] ** 2))


def organ_phantom(
    seed: int = 0,
    shape: Sequence[int] = (96, 96, 64),
    spacing: Sequence[float] = (4.0, 4.0, 5.0),
    *,
    centre: Sequence[float] = (0.0, 0.0, 20.0),
    noise: float = 14.0,
) -> OrganPhantom:
    """Draw one scan.

    Args:
        seed: the patient; the same seed, shape, spacing and centre give the same voxels.
        shape: voxels along each axis (right, anterior, superior).
        spacing: voxel size along each axis in mm.
        centre: where in the patient the middle of the volume lies, in mm; a small volume elsewhere is a crop.
        noise: standard deviation in HU.

    Returns:
        image, labels and affine of the phantom.
    """
    patient = _Patient(seed)
    first = np.asarray(centre, dtype=float) - (np.asarray(shape) - 1) / 2 * np.asarray(spacing)
    axes = [
        (start + step * np.arange(count)).astype(np.float32)
        for start, step, count in zip(first, spacing, shape, strict=True)
    ]
    image = np.empty(tuple(shape), dtype=np.int16)
    labels = np.empty(tuple(shape), dtype=np.uint8)
    for begin in range(0, shape[2], _SLAB):
        part = slice(begin, begin + _SLAB)
        hu, labels[..., part] = patient.draw([axes[0], axes[1], axes[2][part]])
        rng = np.random.default_rng([seed, begin])
        hu = ndimage.gaussian_filter(hu, 0.6, truncate=2.5)
        grain = rng.standard_normal(hu.shape, dtype=np.float32)
        image[..., part] = np.rint(hu + np.float32(noise) * grain)
    affine = np.diag([*np.asarray(spacing, dtype=float), 1.0])
    affine[:3, 3] = first
    return OrganPhantom(image, labels, affine)
