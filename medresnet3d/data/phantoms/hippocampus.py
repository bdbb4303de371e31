"""Synthetic hippocampi: crops around one of them with its two parts, and cohorts of whole brains with their masks.

Drawn, not simulated. The crops look like those of the Medical Segmentation Decathlon in size and labels alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from medresnet3d.data.phantoms.cohorts import segmentation_manifest
from medresnet3d.data.phantoms.mri import patients, person_phantom, write_brain_cohort
from medresnet3d.io import save_nifti
from medresnet3d.io.atomic import atomic_write_text

LABELS = {"0": "background", "1": "anterior", "2": "posterior"}
GREY, WHITE, FLUID = 700.0, 1000.0, 350.0


@dataclass(frozen=True)
class HippocampusPhantom:
    """One synthetic crop.

    Attributes:
        image: intensities (i, j, k), int16, axes to the right, front and top, voxels of 1 mm.
        labels: 0 background, 1 anterior, 2 posterior, uint8.
        affine: (4, 4) to millimetres in RAS+.
    """

    image: np.ndarray
    labels: np.ndarray
    affine: np.ndarray


def hippocampus_phantom(seed: int = 0, right: bool = True, noise: float = 40.0) -> HippocampusPhantom:
    """Draw a bent tube, thicker in front, in white matter with grey folds and a horn of fluid above.

    Args:
        seed: the same seed gives the same voxels.
        right: a right hippocampus, whose tail turns to the middle of the head; else its mirror image.
        noise: standard deviation of the scanner's noise.
    """
    rng = np.random.default_rng(seed)
    shape = rng.integers((32, 44, 30), (40, 54, 40))
    x, y, z = np.ogrid[tuple(slice(0, int(size)) for size in shape)]
    length = rng.uniform(28, 34)
    back = (shape[1] - length) / 2 + rng.uniform(-3, 3)
    along = np.clip((y - back) / length, 0, 1)  # 0 at the tail, 1 at the head
    middle_x = shape[0] / 2 + rng.uniform(3, 6) * (along - 0.5) + rng.uniform(-2, 2)
    middle_z = shape[2] / 2 - rng.uniform(4, 8) * (along - 0.4) + rng.uniform(-2, 2)
    radius = np.sqrt(np.maximum(0, 1 - np.abs(2 * along - 1) ** 4)) * (
        rng.uniform(3.5, 4.5) + rng.uniform(2, 3) * along
    )
    inside = ((x - middle_x) / 1.3) ** 2 + (z - middle_z) ** 2 < radius**2
    inside &= (y > back) & (y < back + length)
    horn = ((x - middle_x - 4) / 1.6) ** 2 + (z - middle_z - radius - 1.5) ** 2 < 6
    folds = ndimage.gaussian_filter(rng.standard_normal(shape), 3)
    tissue = np.where(folds > 0.5 * folds.std(), GREY, WHITE)
    tissue = np.where(horn & (along > 0) & (along < 1), FLUID, tissue)
    tissue = np.where(inside, GREY, tissue)
    labels = np.where(inside, np.where(along > 0.58, 1, 2), 0).astype(np.uint8)
    image = ndimage.gaussian_filter(tissue, 0.5) + noise * rng.standard_normal(shape)
    image, affine = np.rint(image.clip(0)).astype(np.int16), np.eye(4)
    affine[:3, 3] = 1.0
    if not right:
        image, labels = image[::-1].copy(), labels[::-1].copy()
    return HippocampusPhantom(image, labels, affine)


def write_hippocampus_crops(folder: str | Path, count: int = 6, seed: int = 0) -> Path:
    """Write crops of right and left hippocampi in turn as NIfTI, with a manifest of the segmentation task.

    Args:
        folder: gets ``images/``, ``labels/`` and ``manifest.json``.
        count: how many, each its own patient.
        seed: of the first; the others follow.

    Returns:
        Path of the manifest.
    """
    folder, entries = Path(folder), []
    for number in range(count):
        phantom = hippocampus_phantom(seed + number, right=number % 2 == 0)
        name = f"phantom_{number:03d}"
        for kind, array in (("images", phantom.image), ("labels", phantom.labels)):
            save_nifti(array, phantom.affine, folder / kind / f"{name}.nii.gz")
        entries.append({"image": f"images/{name}.nii.gz", "mask": f"labels/{name}.nii.gz", "patient": name})
    description = "Synthetic crops around one hippocampus; not real scans."
    return segmentation_manifest(folder, "hippocampus_phantoms", description, LABELS, entries)


def write_hippocampus_cohort(
    folder: str | Path, task: str = "alzheimer", people: int = 15, seed: int = 0, size: int = 48, masked: int = 1
) -> Path:
    """Write phantoms in ADNI's layout, prepare them, and add the masks of their hippocampi (1 left, 2 right).

    Args:
        folder: gets the layout, ``masks/`` and ``manifest.json``.
        task: of the collection's card.
        people: how many.
        seed: the same seed writes the same files.
        size: voxels along each axis, for 192 mm.
        masked: every so many people have a mask; 0: nobody.

    Returns:
        Path of the manifest.
    """
    folder = Path(folder)
    path = write_brain_cohort(folder, "adni", task, people=people, seed=seed, size=size)
    content = json.loads(path.read_text(encoding="utf-8"))
    by_name = {f"{2 + person.number % 3:03d}_S_{295 + person.number:04d}": person for person in patients(people, seed)}
    for section in ("training", "validation", "test"):
        for number, entry in enumerate(content[section]):
            if masked and number % masked == 0:
                phantom = person_phantom(by_name[entry["patient"]], size)
                entry["mask"] = f"masks/{entry['patient']}.nii.gz"
                save_nifti(phantom.hippocampi, phantom.affine, path.parent / content.get("root", ".") / entry["mask"])
    atomic_write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return path
