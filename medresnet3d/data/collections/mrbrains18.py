"""MRBrainS18: three MRI sequences with eight structures and lesions drawn by hand (Kuijf and Bennink, 2018)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medresnet3d.data.collections.mrbrains13 import SPACING, files_of, scans_of, sequences
from medresnet3d.data.preparation.cohort import MASK_MISSING, Cohort, Image
from medresnet3d.data.preparation.mimics import generator
from medresnet3d.data.preparation.volumes import head, on_grid, renumbered
from medresnet3d.io import save_nifti

SEQUENCES = ("reg_T1", "reg_IR", "FLAIR")
"""The sequences on the grid of the label map; ``T1`` and ``IR`` are as they were scanned."""

TISSUE = dict(enumerate((0, 2, 2, 3, 3, 1, 1, 0, 0, 0, 0)))
"""Structures to tissues as in MRBrainS13; infarctions and other lesions are not evaluated, and are no tissue."""


def collect(cohort: Cohort, *, images: str = "reg_T1,reg_IR,FLAIR") -> None:
    """List the cases with their sequences (after bias field correction) as channels.

    Args:
        cohort: to fill.
        images: sequences, with commas between them.
    """
    wanted = sequences("mrbrains18", images, SEQUENCES)
    for first in cohort.folder.require("cases", *(f"*/pre/FLAIR.nii{packed}" for packed in (".gz", ""))):
        case = first.parent.parent
        part = "test" if case.parent.name.casefold().startswith("test") else "training"
        name = f"{part}_{case.name}"
        scans = scans_of(cohort, name, files_of(first.parent), wanted)
        mask = _mask(cohort, name, case, first) if scans else None
        if mask:
            cohort.add(scans, section=part, patient=name, mask=mask)


def _mask(cohort: Cohort, name: str, case: Path, first: Path) -> Image | None:
    source = files_of(case).get("segm")
    if source is None:
        cohort.drop(MASK_MISSING, name)
        return None
    if cohort.task.name == "tissue":
        return renumbered(name, source, TISSUE, first)
    return on_grid(cohort, name, source, first)


def mimic(folder: Path, seed: int) -> None:
    """Write the seven cases with their official numbers, unregistered sequences beside the others, and no original."""
    rng = generator(seed, "mrbrains18")
    for index, case in enumerate(("1", "4", "5", "7", "14", "070", "148")):
        base = folder / "training" / case
        array, tissue = head(rng, (14, 16, 8), kind=index)
        for name in SEQUENCES:
            save_nifti(array, SPACING, base / "pre" / f"{name}.nii.gz")
        for name in ("T1", "IR"):
            save_nifti(head(rng, (12, 12, 20))[0], np.eye(4), base / "pre" / f"{name}.nii.gz")
        numbers = np.array([[0, 5, 1, 3], [0, 6, 2, 4], [0, 9, 7, 8], [0, 10, 7, 8]])
        column = np.arange(14).reshape(-1, 1, 1) * 4 // 14
        save_nifti(numbers[column, tissue].astype(np.uint8), SPACING, base / "segm.nii.gz")
