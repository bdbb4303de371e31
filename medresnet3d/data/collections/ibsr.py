"""IBSR V2.0: 18 T1 MRI with tissues drawn by experts (Center for Morphometric Analysis, Boston)."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel as nib
import numpy as np

from medresnet3d.data.cases import stem
from medresnet3d.data.preparation.cohort import MASK_MISSING, Cohort
from medresnet3d.data.preparation.folders import Pictures
from medresnet3d.data.preparation.mimics import generator
from medresnet3d.data.preparation.volumes import head, on_grid
from medresnet3d.io import save_nifti
from medresnet3d.io.atomic import atomic_path

CORONAL = np.array([[-0.94, 0, 0, 8], [0, 0, 1.5, -9], [0, -0.94, 0, 8], [0, 0, 0, 1.0]])
"""From voxels of the mimic's slices to mm: coronal, from front to back in the third axis."""


def collect(cohort: Cohort, *, stripped: bool = True, filled: bool = True) -> None:
    """List the cases.

    Args:
        cohort: to fill.
        stripped: take the image without skull (``ana_strip``), not the whole head (``ana``).
        filled: take the tissues with the gaps inside of the brain filled as fluid (``segTRI_fill``).
    """
    image, mask = "ana_strip" if stripped else "ana", "segTRI_fill_ana" if filled else "segTRI_ana"
    images = cohort.folder.require("T1 images", *(f"IBSR_[0-9][0-9]_{image}.nii{packed}" for packed in (".gz", "")))
    masks = Pictures(cohort.folder.files(*(f"IBSR_[0-9][0-9]_{mask}.nii{packed}" for packed in (".gz", ""))), key=_case)
    for case, path in Pictures(images, key=_case).items():
        tissue = cohort.find(masks, case, MASK_MISSING)
        placed = on_grid(cohort, f"{case}_{mask}", tissue, path) if tissue else None
        if placed:
            cohort.add(path, patient=case.upper(), mask=placed)


def _case(path: Path) -> str:
    return re.sub(r"^(ibsr_\d\d).*", r"\1", stem(path).casefold())


def mimic(folder: Path, seed: int) -> None:
    """Write six cases in coronal slices with a fourth axis of one, and a case without tissues."""
    rng = generator(seed, "ibsr")
    for number in range(1, 8):
        base, name = folder / "IBSR_nifti_stripped" / f"IBSR_{number:02d}", f"IBSR_{number:02d}"
        array, tissue = head(rng, (16, 12, 14), kind=number)
        _save(array, base / f"{name}_ana.nii.gz")
        _save(array * (tissue > 0), base / f"{name}_ana_strip.nii.gz")
        save_nifti((tissue > 0).astype(np.uint8), CORONAL, base / f"{name}_ana_brainmask.nii.gz")
        save_nifti(tissue * 10, CORONAL, base / f"{name}_seg_ana.nii.gz")
        if number < 7:
            _save(tissue, base / f"{name}_segTRI_fill_ana.nii.gz")
            _save(
                np.where(rng.random(tissue.shape) < 0.02, 0, tissue).astype(np.uint8),
                base / f"{name}_segTRI_ana.nii.gz",
            )


def _save(array: np.ndarray, path: Path) -> None:
    """Write with a fourth axis of one, which :func:`medresnet3d.io.save_nifti` does not."""
    with atomic_path(path) as temporary:
        nib.nifti1.Nifti1Image(array[..., None], CORONAL).to_filename(temporary)
