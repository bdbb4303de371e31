"""Rigid alignment of skull-stripped brains, so that the same voxel is about the same place in every head.

The reference is drawn, not measured: ellipsoids of fluid, grey and white matter and ventricles of about the size of an
adult brain. It fixes a frame (middle of the brain, mid-sagittal plane, the long axis level), which is all that a rigid
alignment can give; a template file such as the MNI152 average can take its place.

Two things are made small at once: the difference to the reference, with gain and offset of the intensities solved
along, and the difference between the halves of the brain, since nothing else tells how far a nearly round cross-section
is tilted to the side. The search is Gauss-Newton: some fifty linear least-squares problems of eight unknowns, without
random numbers. SimpleITK's registration by mutual information was tried first: from turns of ten degrees it stopped
several degrees away.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from medresnet3d.errors import DataError
from medresnet3d.io import load

Array = NDArray[np.float64]

LEVELS, STEPS = ((8.0, 8.0), (4.0, 6.0)), 30
"""Blur of both images and distance of the points that are compared, in mm, coarse to fine; and most steps at each."""

CLOSE = 2e-3
"""A step below this (radians, and 100 mm) ends a level."""

SHELLS = (((66.0, 82.0, 62.0), 0.35), ((61.0, 77.0, 57.0), 0.7), ((55.0, 70.0, 51.0), 1.0))
"""Half axes (right, anterior, superior) in mm and intensity of the drawn brain's layers: fluid, grey, white matter."""

VENTRICLE, FLUID = ((10.0, 26.0, 12.0), (9.0, 0.0, 6.0)), 0.35
"""Half axes and middle in mm of the right lateral ventricle; the left one is its mirror image."""

MAX_TURN_DEGREES = 60.0


def drawn_brain(spacing: float = 4.0) -> tuple[NDArray[np.float32], Array]:
    """The drawn reference brain, intensities (i, j, k) from 0 to 1, and its affine to mm, RAS+, origin in the middle.

    Args:
        spacing: edge of a voxel in mm.
    """
    half = np.array(SHELLS[0][0]) + 14.0
    axes = [np.arange(-np.ceil(side / spacing), np.ceil(side / spacing) + 1) * spacing for side in half]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    image = np.zeros(points.shape[:3], np.float32)
    for sides, value in SHELLS:
        image[((points / sides) ** 2).sum(-1) < 1] = value
    (sides, centre), mirrored = VENTRICLE, np.array([-1.0, 1.0, 1.0])
    for middle in (np.array(centre), centre * mirrored):
        image[(((points - middle) / sides) ** 2).sum(-1) < 1] = FLUID
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = [axis[0] for axis in axes]
    return ndimage.gaussian_filter(image, 4.0 / spacing), affine


@lru_cache(maxsize=2)
def _reference(template: str | None) -> list[tuple[Array, Array]]:
    """For each blur, the points (N, 3) of the reference's frame that are compared, and its values there (N,)."""
    if template is None:
        image, affine = drawn_brain()
    else:
        volume = load(Path(template))
        image, affine = volume.array.astype(np.float32), volume.affine.copy()
        affine[:3, 3] -= centre_on_brain(image, affine)[:3, 3]
    corners = apply_affine(affine, np.array(list(np.ndindex(2, 2, 2))) * (np.array(image.shape) - 1))
    levels = []
    for blur, distance in LEVELS:
        axes = [np.arange(low, high, distance) for low, high in zip(corners.min(0), corners.max(0), strict=True)]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        levels.append((points, _Sampled(image, affine, blur).values(points)))
    return levels


class _Sampled:
    """A blurred volume and its gradient, to be read at points in mm; both are zero outside."""

    def __init__(self, image: NDArray[np.float32], affine: Array, blur_mm: float) -> None:
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        steps = np.maximum(1, np.floor(blur_mm / 2 / spacing).astype(int))
        smooth = ndimage.gaussian_filter(image, blur_mm / spacing / 2, mode="constant")
        self.volume = smooth[:: steps[0], :: steps[1], :: steps[2]]
        coarse = affine.copy()
        coarse[:3, :3] *= steps
        self.to_voxel = np.linalg.inv(coarse)
        self.slopes = np.gradient(self.volume)

    def values(self, points: Array) -> Array:
        """Values (N,) at points (N, 3)."""
        return self._read(self.volume, points)

    def gradient(self, points: Array) -> Array:
        """Gradient by mm (N, 3) at points (N, 3)."""
        return np.stack([self._read(slope, points) for slope in self.slopes], -1) @ self.to_voxel[:3, :3]

    def _read(self, volume: NDArray[np.float32], points: Array) -> Array:
        voxels = apply_affine(self.to_voxel, points).T
        return np.asarray(ndimage.map_coordinates(volume, voxels, order=1, output=np.float64))


def centre_on_brain(image: NDArray[np.float32], affine: Array) -> Array:
    """The shift (4, 4) that moves the origin of the reference's frame to the middle of a brain, and turns nothing.

    Args:
        image: brain (i, j, k), zero outside.
        affine: 4 x 4, to mm, RAS+.
    """
    shift = np.eye(4)
    shift[:3, 3] = affine[:3, :3] @ ndimage.center_of_mass(image > 0.1 * float(image.max())) + affine[:3, 3]
    return shift


def align_rigidly(image: NDArray[np.float32], affine: Array, template: str | None = None) -> Array:
    """Find the rotation and shift between the reference's frame and a brain.

    Args:
        image: skull-stripped brain (i, j, k), zero outside.
        affine: 4 x 4, to mm, RAS+; the axes as the header has them must be right within some 40 degrees.
        template: path of a skull-stripped reference volume; by default :func:`drawn_brain`.

    Returns:
        4 x 4, from mm of the reference's frame (origin in the middle of the brain) to mm of the scan, both RAS+.

    Raises:
        DataError: if the two do not fit together.
    """
    found = centre_on_brain(image, affine)
    for (points, truth), (blur, _) in zip(_reference(template), LEVELS, strict=True):
        moving = _Sampled(image, affine, blur)
        for _ in range(STEPS):
            turn, shift, gain = _step(moving, points, truth, found)
            if gain <= 0 or not np.isfinite(gain):
                raise DataError(
                    "the brain could not be aligned: it does not look like the reference; check that this is a "
                    "skull-stripped T1 scan, or set `align` to false."
                )
            # about the middle of the brain, so that turns and shifts do not mix
            found[:3, :3] = Rotation.from_rotvec(turn).as_matrix() @ found[:3, :3]
            found[:3, 3] += shift
            if np.abs(turn).max() < CLOSE and np.abs(shift).max() < 100 * CLOSE:
                break
    return found


def _step(moving: _Sampled, points: Array, truth: Array, found: Array) -> tuple[Array, Array, float]:
    """One step of Gauss-Newton: the turn (a rotation vector), the shift in mm, and the gain of the intensities."""
    values, slope = _seen(moving, points, found)
    mirrored, mirrored_slope = _seen(moving, points * (-1, 1, 1), found)
    likeness = np.column_stack([values, np.ones_like(values), slope])
    symmetry = np.column_stack([values - mirrored, np.zeros_like(values), slope - mirrored_slope])
    columns, truth = np.concatenate([likeness, symmetry]), np.concatenate([truth, np.zeros_like(truth)])
    solved = np.linalg.lstsq(columns.T @ columns, columns.T @ truth, rcond=None)[0]
    gain = float(solved[0])
    return solved[2:5] / (gain or 1.0), solved[5:8] / (gain or 1.0), gain


def _seen(moving: _Sampled, points: Array, found: Array) -> tuple[Array, Array]:
    """Values (N,) of a brain at points of the reference's frame, and how turns and shifts change them (N, 6)."""
    turned = points @ found[:3, :3].T
    places = turned + found[:3, 3]
    slope = moving.gradient(places)
    return moving.values(places), np.column_stack([np.cross(turned, slope), slope])
