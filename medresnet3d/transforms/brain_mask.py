"""Find the brain of a skull-stripped MRI, and recognise a whole head that was not stripped.

A stripped scan has a constant (or noisy) background and one body, dim at its surface (fluid, cortex) and bright inside
(white matter). In a whole head the order is scalp, then dark skull, then brain: on the way in from the surface the mean
intensity falls steeply before it rises again. That fall does not depend on contrast, orientation, voxel size or on how
the intensities were scaled. The volume of the body is a second sign where the voxel size can be believed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medresnet3d.errors import DataError

MAX_BRAIN_LITRES = 2.4
MIN_RIM_RATIO = 0.6
COARSE_VOXELS = 5e5  # a brain at 2 mm: enough to tell scalp, skull and brain apart
BINS = 24  # of the way from the surface inwards, each 1/60 of the body's equivalent radius


def background_level(volume: np.ndarray) -> tuple[float, float]:
    """Level and noise of the air: median and robust standard deviation of the eight corner blocks' darkest half.

    Args:
        volume: intensities (i, j, k).

    Returns:
        (level, standard deviation); the latter is 0 for a constant background.
    """
    sides = [max(1, n // 16) for n in volume.shape]
    blocks = [
        volume[tuple(slice(0, s) if low else slice(-s, None) for low, s in zip((i, j, k), sides, strict=True))].ravel()
        for i in (True, False)
        for j in (True, False)
        for k in (True, False)
    ]
    quiet = sorted(blocks, key=lambda block: float(np.ptp(block)))[:4]
    air = np.concatenate(quiet).astype(np.float64)
    level = float(np.median(air))
    return level, float(1.4826 * np.median(np.abs(air - level)))


def brain_mask(volume: np.ndarray) -> np.ndarray:
    """Voxels of the body of a scan whose background is constant or noise.

    With a constant background, all voxels that differ from it; otherwise the largest connected part above the noise.
    Enclosed holes belong to the body.

    Args:
        volume: intensities (i, j, k) on any scale; the background may be zero, negative or noisy.

    Returns:
        Boolean mask (i, j, k).

    Raises:
        DataError: if the image is constant or holds no body.
    """
    volume = np.asarray(volume, dtype=np.float32)
    level, noise = background_level(volume)
    away = np.abs(volume - level)
    top = float(np.percentile(away, 99.5)) if away.any() else 0.0
    if not np.isfinite(top) or top <= 0:
        raise DataError("the image is constant or not finite: there is no brain in it; give a skull-stripped T1 scan.")
    if noise <= 1e-4 * top:
        mask = away > 1e-3 * top
    else:
        mask = ndimage.binary_opening(ndimage.gaussian_filter(away, 0.7) > max(4 * noise, 0.08 * top))
        parts, count = ndimage.label(mask)
        if count > 1:
            mask = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    mask = _filled(mask)
    if mask.sum() < 64:
        raise DataError("no brain was found above the background; give a skull-stripped T1 scan of the whole brain.")
    return np.asarray(mask)


def _filled(mask: np.ndarray) -> np.ndarray:
    """The mask (i, j, k) with its enclosed holes, as ``scipy.ndimage.binary_fill_holes`` gives it."""
    parts, _ = ndimage.label(np.pad(~mask, 1, constant_values=True))
    return np.asarray(parts[1:-1, 1:-1, 1:-1] != parts[0, 0, 0])


@dataclass(frozen=True)
class HeadSigns:
    """What tells a whole head from a stripped brain.

    Attributes:
        litres: volume of all that is not air, enclosed holes included.
        rim_ratio: lowest ratio of the mean intensity at some depth below the surface to that at a smaller depth; about
            1 for a stripped brain, far below for scalp over skull.
    """

    litres: float
    rim_ratio: float

    @property
    def whole_head(self) -> bool:
        """Whether the scan is taken for a whole head."""
        return self.litres > MAX_BRAIN_LITRES or self.rim_ratio < MIN_RIM_RATIO


def head_signs(volume: np.ndarray, spacing: tuple[float, ...]) -> HeadSigns:
    """Measure the signs of a whole head.

    Args:
        volume: intensities (i, j, k).
        spacing: voxel size in mm.

    Raises:
        DataError: if there is no body in the image.
    """
    steps = _coarse_steps(volume.shape, spacing)
    coarse = np.ascontiguousarray(volume[tuple(slice(None, None, step) for step in steps)], dtype=np.float32)
    brain = brain_mask(coarse)  # refuses empty and constant images
    level, noise = background_level(volume)
    body = _solid(_parts(coarse, level, noise))
    dark = min(level, float(np.percentile(coarse[brain], 1)))
    bright = coarse - dark
    voxel = np.asarray(spacing, dtype=float) * steps
    volume_mm3 = float(body.sum() * np.prod(voxel))
    radius = np.cbrt(3 * volume_mm3 / (4 * np.pi))
    depth = ndimage.distance_transform_edt(np.pad(body, 1), sampling=voxel)[1:-1, 1:-1, 1:-1]
    bins = np.floor((depth[body] - 0.5 * voxel.min()) / radius * 60).astype(int)
    inside = (bins >= 0) & (bins < BINS)
    count = np.bincount(bins[inside], minlength=BINS)
    total = np.bincount(bins[inside], weights=bright[body][inside], minlength=BINS)
    profile = np.maximum((total / np.maximum(count, 1))[count > 0], 1e-6)
    return HeadSigns(litres=volume_mm3 / 1e6, rim_ratio=float((profile / np.maximum.accumulate(profile)).min()))


def _coarse_steps(shape: tuple[int, ...], spacing: tuple[float, ...]) -> tuple[int, ...]:
    """Every how many voxels along each axis to look, so that about ``COARSE_VOXELS`` nearly cubic ones are left."""
    sides = np.asarray(shape) * np.asarray(spacing, dtype=float)
    wanted = np.cbrt(np.prod(sides) / COARSE_VOXELS)
    return tuple(max(1, round(float(wanted / side))) for side in spacing)


def _parts(volume: np.ndarray, level: float, noise: float) -> np.ndarray:
    """All that is clearly not air, save specks: in a whole head, scalp and brain may be separate parts."""
    away = np.abs(volume - level)
    if noise > 0:
        away = ndimage.gaussian_filter(away, 0.7)
    mask = away > max(4 * noise, 0.1 * float(np.percentile(away, 99.5)))
    parts, count = ndimage.label(mask)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    return np.asarray((sizes >= 0.02 * sizes.max())[parts] & mask)


def _solid(mask: np.ndarray) -> np.ndarray:
    """Fill what is enclosed in any slice along any axis: a skull stays inside though the neck leaves the volume."""
    solid = ndimage.binary_closing(np.pad(mask, 2), iterations=2)[2:-2, 2:-2, 2:-2] | mask
    for axis in range(3):
        planes = [ndimage.binary_fill_holes(plane) for plane in np.moveaxis(solid, axis, 0)]
        solid = np.moveaxis(np.stack(planes), 0, axis)
    return np.asarray(solid)
