"""Synthetic brains: skull-stripped T1-like volumes with their tissue labels, and whole heads around them.

They are drawn, not simulated: an ellipsoid of fluid, a folded sheet of grey matter on white matter, two ventricles,
deep grey nuclei and, where wanted, two hippocampi, with partial volume, a smooth field and noise. Good for tests of
plumbing, never for claims about real brains. Cohorts of people with an age and a diagnosis:
:mod:`medresnet3d.data.phantoms.mri`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from medresnet3d.data.phantoms.cohorts import segmentation_manifest
from medresnet3d.io.atomic import atomic_path

LABELS = {"0": "background", "1": "CSF", "2": "grey matter", "3": "white matter"}
CONTRASTS = {"t1": np.array([0.0, 350.0, 700.0, 1000.0]), "t2": np.array([0.0, 1000.0, 700.0, 350.0])}
"""Intensity by label: fluid dark as in T1 images, or bright as in T2 images."""

SKULL, SCALP = 60.0, 1050.0
FOCUS_RADIUS = 0.35
"""Of focal atrophy, in half edges of the volume."""

FOCAL_SULCI = 4.0  # sulci in its middle, in addition

HIPPOCAMPUS_PLACE, HIPPOCAMPUS_AXES = (0.3, -0.05, -0.24), (0.085, 0.21, 0.085)
"""Middle of the right one (its mirror image is the left one) and half axes at full size."""


@dataclass(frozen=True)
class BrainPhantom:
    """One synthetic scan.

    Attributes:
        image: intensities (i, j, k), int16, background 0 unless noise was asked for.
        labels: tissue labels (i, j, k), uint8, 0 to 3; the truth by construction.
        affine: (4, 4) to millimetres in RAS+.
        hippocampi: mask of the hippocampi (i, j, k), uint8, 1 left and 2 right; empty where none were asked for.
    """

    image: np.ndarray
    labels: np.ndarray
    affine: np.ndarray
    hippocampi: np.ndarray


def _ellipsoid(points: np.ndarray, centre: tuple[float, ...], axes: tuple[float, ...]) -> np.ndarray:
    """Level set of an ellipsoid: 1 at the centre, 0 on the surface."""
    shift = points - np.reshape(centre, (3, 1, 1, 1))
    return np.asarray(1 - np.sqrt(((shift / np.reshape(axes, (3, 1, 1, 1))) ** 2).sum(0)))


def _nearness(points: np.ndarray, place: Sequence[float]) -> np.ndarray:
    """1 at a place, falling to 0 at the radius of focal atrophy."""
    distance = np.sqrt(((points - np.reshape(place, (3, 1, 1, 1))) ** 2).sum(0))
    return np.asarray(np.clip(1 - distance / FOCUS_RADIUS, 0, 1))


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """Gaussian random field with unit standard deviation and ``sigma`` voxels of correlation."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return np.asarray(field / field.std())


def _tissue(
    points: np.ndarray,
    rng: np.random.Generator,
    ventricles: float,
    sulci: float | np.ndarray,
    axes: Sequence[float],
    uneven: float,
) -> np.ndarray:
    """Labels of one brain in coordinates from -1 to 1."""
    size = points.shape[1]
    hull = _ellipsoid(points, (0, 0, 0.05), tuple(np.array(axes) * rng.uniform(0.95, 1.05, 3)))
    folded = hull + 0.07 * _smooth_noise(rng, hull.shape, size / 28)
    cortex = (folded > 0.1 + 0.08 * sulci) & (hull > 0.03)
    depth = ndimage.distance_transform_edt(cortex) / size
    thickness = 0.045 * np.exp(uneven * _smooth_noise(rng, hull.shape, size / 10)) if uneven else 0.045
    labels = np.where(hull > 0, 1, 0) + cortex + (depth > thickness)
    for side in (-1, 1):
        nucleus = _ellipsoid(points, (side * 0.2, 0.05, 0.0), (0.1, 0.2, 0.12)) > 0
        labels[nucleus & (labels == 3)] = 2
        horn = (0.08 + 0.04 * ventricles, 0.25 + 0.1 * ventricles, 0.12 + 0.06 * ventricles)
        labels[_ellipsoid(points, (side * 0.09, 0.0, 0.1), horn) > 0] = 1
    return np.asarray(labels, dtype=np.uint8)


def _add_hippocampi(points: np.ndarray, labels: np.ndarray, volume: float) -> np.ndarray:
    """Paint two hippocampi into ``labels`` and give their mask; fluid fills what is missing to the full volume."""
    mask = np.zeros(labels.shape, np.uint8)
    for number, side in ((1, -1), (2, 1)):
        centre = (side * HIPPOCAMPUS_PLACE[0], *HIPPOCAMPUS_PLACE[1:])
        whole = _ellipsoid(points, centre, HIPPOCAMPUS_AXES) > 0
        shrunk = _ellipsoid(points, centre, tuple(np.array(HIPPOCAMPUS_AXES) * np.cbrt(volume))) > 0
        labels[whole] = 1
        labels[shrunk] = 2
        mask[shrunk] = number
    return mask


def scanned(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image with the shading and the noise of a scanner, for tissues of some hundreds."""
    shading = 1 + 0.06 * _smooth_noise(rng, image.shape, image.shape[0] / 4)
    return np.asarray(image * shading + 25 * rng.standard_normal(image.shape))


def _points(size: int, turn_degrees: Sequence[float], shift: np.ndarray) -> np.ndarray:
    """Coordinates from -1 to 1 of the voxels (3, i, j, k) in the frame of a head that was turned, then shifted."""
    axis = np.linspace(-1, 1, size)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))
    moved = grid - np.reshape(shift, (3, 1, 1, 1))
    turn = Rotation.from_euler("xyz", turn_degrees, degrees=True).as_matrix()
    return np.asarray(np.tensordot(turn.T, moved, axes=1)) if any(turn_degrees) else moved


def brain_phantom(
    seed: int = 0,
    size: int = 64,
    *,
    spacing: float = 1.0,
    ventricles: float = 0.5,
    sulci: float = 0.0,
    hippocampi: float | None = None,
    axes: Sequence[float] = (0.62, 0.78, 0.6),
    focus: Sequence[float] | None = None,
    focal_atrophy: float = 0.0,
    contrast: str = "t1",
    uneven: float = 0.0,
    turn_degrees: Sequence[float] = (0.0, 0.0, 0.0),
    shift_mm: Sequence[float] = (0.0, 0.0, 0.0),
    head: bool = False,
    background: float = 0.0,
) -> BrainPhantom:
    """Draw one brain.

    Args:
        seed: the same seed gives the same voxels.
        size: voxels along each axis.
        spacing: voxel size in mm.
        ventricles: from 0 (narrow) to 1 (wide).
        sulci: from 0 (narrow) to 1 (wide): how far the cortex has withdrawn from the hull.
        hippocampi: volume as a fraction of the full one, in whose place there is fluid otherwise; None draws none.
        axes: half axes of the hull (right, anterior, superior), as fractions of half the volume's edge.
        focus: place (right, anterior, superior), in half edges of the volume, around which the cortex withdraws more.
        focal_atrophy: from 0 (none) to 1: how much more.
        contrast: ``t1`` or ``t2``, see :data:`CONTRASTS`.
        uneven: how much the cortex's thickness differs from place to place, the standard deviation of its logarithm.
        turn_degrees: rotation of the head about the axes right, anterior and superior, in this order.
        shift_mm: shift of the head along these axes.
        head: surround the brain with skull, scalp and a neck that runs out of the volume.
        background: standard deviation of the air's noise; 0 leaves the air exactly zero.

    Returns:
        image, labels and affine of the phantom.
    """
    rng = np.random.default_rng(seed)
    points = _points(size, turn_degrees, np.asarray(shift_mm, dtype=float) * 2 / (spacing * (size - 1)))
    local = 0.0 if focus is None else FOCAL_SULCI * focal_atrophy * _nearness(points, focus)
    labels = _tissue(points, rng, ventricles, sulci + local, axes, uneven)
    mask = np.zeros(labels.shape, np.uint8) if hippocampi is None else _add_hippocampi(points, labels, hippocampi)
    image = ndimage.gaussian_filter(CONTRASTS[contrast][labels], 0.5)
    inside = labels > 0
    if head:
        skull = _ellipsoid(points, (0, 0, 0.05), (0.74, 0.9, 0.72)) > 0
        neck = (np.hypot(points[0], points[1] + 0.15) < 0.4) & (points[2] < -0.3)
        scalp = (_ellipsoid(points, (0, 0, 0.05), (0.84, 0.99, 0.82)) > 0) | neck
        image = np.where(inside, image, np.where(skull, SKULL, np.where(scalp, SCALP, 0.0)))
        inside = scalp | inside
    image = scanned(image, rng)
    air = np.abs(background * rng.standard_normal(image.shape))
    image = np.where(inside, np.maximum(image, 1), air)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = -spacing * (size - 1) / 2
    return BrainPhantom(np.rint(image).astype(np.int16), labels, affine, mask)


def write_brain_phantoms(folder: str | Path, count: int, seed: int = 0, size: int = 64) -> Path:
    """Write skull-stripped phantoms as NIfTI with a manifest of the segmentation task.

    Args:
        folder: where ``images/``, ``labels/`` and ``manifest.json`` go; made if absent.
        count: how many, each its own patient.
        seed: seed of the first; the others follow.
        size: voxels along each axis, of 1 mm.

    Returns:
        Path of the manifest.
    """
    folder = Path(folder)
    entries = []
    for number in range(count):
        phantom = brain_phantom(seed + number, size, ventricles=number / max(count - 1, 1))
        name = f"phantom_{number:03d}"
        for kind, array in (("images", phantom.image), ("labels", phantom.labels)):
            with atomic_path(folder / kind / f"{name}.nii.gz") as path:
                nib.save(nib.Nifti1Image(array, phantom.affine), path)
        entries.append({"image": f"images/{name}.nii.gz", "mask": f"labels/{name}.nii.gz", "patient": name})
    description = "Synthetic skull-stripped brains; not real scans."
    return segmentation_manifest(folder, "brain_phantoms", description, LABELS, entries)
