"""Synthetic brains: skull-stripped T1-like volumes with their tissue labels, and whole heads around them.

They are drawn, not simulated: an ellipsoid of fluid, a folded sheet of grey matter on white matter, two ventricles and
deep grey nuclei, with partial volume, a smooth field and noise. Good for tests of plumbing, never for claims about real
brains.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from medresnet3d.io.atomic import atomic_path, atomic_write_text

LABELS = {"0": "background", "1": "CSF", "2": "grey matter", "3": "white matter"}
TISSUE = np.array([0.0, 350.0, 700.0, 1000.0])  # intensity by label
SKULL, SCALP = 60.0, 1050.0


@dataclass(frozen=True)
class BrainPhantom:
    """One synthetic scan.

    Attributes:
        image: intensities (i, j, k), int16, background 0 unless noise was asked for.
        labels: tissue labels (i, j, k), uint8, 0 to 3; the truth by construction.
        affine: (4, 4) to millimetres in RAS+.
    """

    image: np.ndarray
    labels: np.ndarray
    affine: np.ndarray


def _ellipsoid(points: np.ndarray, centre: tuple[float, ...], axes: tuple[float, ...]) -> np.ndarray:
    """Level set of an ellipsoid: 1 at the centre, 0 on the surface."""
    shift = points - np.reshape(centre, (3, 1, 1, 1))
    return np.asarray(1 - np.sqrt(((shift / np.reshape(axes, (3, 1, 1, 1))) ** 2).sum(0)))


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """Gaussian random field with unit standard deviation and ``sigma`` voxels of correlation."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return np.asarray(field / field.std())


def _tissue(points: np.ndarray, rng: np.random.Generator, ventricles: float) -> np.ndarray:
    """Labels of one brain in coordinates from -1 to 1."""
    size = points.shape[1]
    hull = _ellipsoid(points, (0, 0, 0.05), tuple(np.array([0.62, 0.78, 0.6]) * rng.uniform(0.95, 1.05, 3)))
    folded = hull + 0.07 * _smooth_noise(rng, hull.shape, size / 28)
    cortex = (folded > 0.1) & (hull > 0.03)
    depth = ndimage.distance_transform_edt(cortex) / size
    labels = np.where(hull > 0, 1, 0) + cortex + (depth > 0.045)
    for side in (-1, 1):
        nucleus = _ellipsoid(points, (side * 0.2, 0.05, 0.0), (0.1, 0.2, 0.12)) > 0
        labels[nucleus & (labels == 3)] = 2
        horn = (0.08 + 0.04 * ventricles, 0.25 + 0.1 * ventricles, 0.12 + 0.06 * ventricles)
        labels[_ellipsoid(points, (side * 0.09, 0.0, 0.1), horn) > 0] = 1
    return np.asarray(labels, dtype=np.uint8)


def brain_phantom(
    seed: int = 0,
    size: int = 64,
    *,
    spacing: float = 1.0,
    ventricles: float = 0.5,
    head: bool = False,
    background: float = 0.0,
) -> BrainPhantom:
    """Draw one brain.

    Args:
        seed: the same seed gives the same voxels.
        size: voxels along each axis.
        spacing: voxel size in mm.
        ventricles: from 0 (narrow) to 1 (wide).
        head: surround the brain with skull, scalp and a neck that runs out of the volume.
        background: standard deviation of the air's noise; 0 leaves the air exactly zero.

    Returns:
        image, labels and affine of the phantom.
    """
    rng = np.random.default_rng(seed)
    axis = np.linspace(-1, 1, size)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))
    labels = _tissue(points, rng, ventricles)
    image = ndimage.gaussian_filter(TISSUE[labels], 0.5)
    inside = labels > 0
    if head:
        skull = _ellipsoid(points, (0, 0, 0.05), (0.74, 0.9, 0.72)) > 0
        neck = (np.hypot(points[0], points[1] + 0.15) < 0.4) & (points[2] < -0.3)
        scalp = (_ellipsoid(points, (0, 0, 0.05), (0.84, 0.99, 0.82)) > 0) | neck
        image = np.where(inside, image, np.where(skull, SKULL, np.where(scalp, SCALP, 0.0)))
        inside = scalp | inside
    image = image * (1 + 0.06 * _smooth_noise(rng, image.shape, size / 4)) + 25 * rng.standard_normal(image.shape)
    air = np.abs(background * rng.standard_normal(image.shape))
    image = np.where(inside, np.maximum(image, 1), air)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = -spacing * (size - 1) / 2
    return BrainPhantom(np.rint(image).astype(np.int16), labels, affine)


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
    manifest = {
        "name": "brain_phantoms",
        "task": "segmentation",
        "modality": "MR T1",
        "description": "Synthetic skull-stripped brains; not real scans.",
        "licence": "Apache-2.0",
        "labels": LABELS,
        "training": entries,
    }
    atomic_write_text(folder / "manifest.json", json.dumps(manifest, indent=1))
    return folder / "manifest.json"
