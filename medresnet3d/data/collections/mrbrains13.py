"""MRBrainS13: three MRI sequences of 20 elderly people with tissues drawn by hand (Mendrik et al., 2015)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medresnet3d.data.cases import stem
from medresnet3d.data.preparation.cohort import IMAGE_MISSING, MASK_MISSING, Cohort, Image
from medresnet3d.data.preparation.mimics import generator
from medresnet3d.data.preparation.volumes import head, on_grid, renumbered
from medresnet3d.errors import ConfigError
from medresnet3d.io import save_nifti

SEQUENCES = ("T1", "T1_IR", "T2_FLAIR")
"""The sequences that share a grid; ``T1_1mm`` has one of its own."""

PARTS = {"TrainingData": "training", "TestData": "test"}
TISSUE = dict(enumerate((0, 2, 2, 3, 3, 1, 1, 0, 0)))
"""The official merger of the eight structures to the three tissues that are evaluated."""

SPACING = np.diag([0.958, 0.958, 3.0, 1.0])


def collect(cohort: Cohort, *, images: str = "T1,T1_IR,T2_FLAIR") -> None:
    """List the cases with their sequences as channels; both parts number their people from 1.

    Args:
        cohort: to fill.
        images: sequences, with commas between them.
    """
    wanted = sequences("mrbrains13", images, SEQUENCES)
    found = cohort.folder.require(
        "cases", *(f"{part}/*/{wanted[0]}.nii{packed}" for part in PARTS for packed in ("", ".gz"))
    )
    for first in found:
        case = first.parent
        part = next(name for name in PARTS if name.casefold() == case.parent.name.casefold())
        name = f"{PARTS[part]}_{case.name}"
        files = files_of(case)
        scans = scans_of(cohort, name, files, wanted)
        mask = _mask(cohort, name, files) if scans else None
        if scans and (mask or part == "TestData"):
            cohort.add(scans, section=PARTS[part], patient=name, mask=mask)


def sequences(card: str, images: str, known: tuple[str, ...]) -> list[str]:
    """The names in an option, each checked.

    Raises:
        ConfigError: if one is none of ``known``.
    """
    wanted = [name.strip() for name in images.split(",") if name.strip()]
    if not wanted or set(wanted) - set(known):
        raise ConfigError(f"{card}: the option images is {images!r}; choose from {', '.join(known)}.")
    return wanted


def files_of(folder: Path) -> dict[str, Path]:
    """The NIfTI files of a folder by their stem in small letters."""
    return {stem(path).casefold(): path for path in folder.glob("[!.]*.nii*")}


def scans_of(cohort: Cohort, name: str, files: dict[str, Path], wanted: list[str]) -> list[Image]:
    """The sequences of a case on the grid of the first; none if one is missing, which is counted."""
    paths = [files.get(sequence.casefold()) for sequence in wanted]
    if None in paths:
        cohort.drop(IMAGE_MISSING, f"{name}/{wanted[paths.index(None)]}")
        return []
    there = [path for path in paths if path is not None]
    scans = [on_grid(cohort, f"{name}_{stem(path)}", path, there[0], "images") for path in there]
    return [scan for scan in scans if scan is not None] if None not in scans else []


def _mask(cohort: Cohort, name: str, files: dict[str, Path]) -> Image | None:
    """The label map for the task; the tissues are merged from the structures where only these are there."""
    first = next(path for sequence, path in files.items() if sequence in map(str.casefold, SEQUENCES))
    structures, tissue = files.get("labelsfortraining"), files.get("labelsfortesting")
    if cohort.task.name == "tissue" and tissue is None and structures:
        return renumbered(name, structures, TISSUE, first)
    source = tissue if cohort.task.name == "tissue" else structures
    if source is None:
        if name.startswith("training"):
            cohort.drop(MASK_MISSING, name)
        return None
    return on_grid(cohort, name, source, first)


def mimic(folder: Path, seed: int) -> None:
    """Write five training and three test cases, with the T1 of 1 mm on its own grid and one label map misplaced."""
    rng = generator(seed, "mrbrains13")
    for part, count in (("TrainingData", 5), ("TestData", 3)):
        for number in range(1, count + 1):
            case = folder / part / str(number)
            array, tissue = head(rng, (14, 16, 8), kind=number)
            for sequence in SEQUENCES:
                save_nifti(array, SPACING, case / f"{sequence}.nii")
            save_nifti(head(rng, (14, 16, 24))[0], np.diag([0.958, 0.958, 1.0, 1.0]), case / "T1_1mm.nii")
            if part == "TestData":
                continue
            numbers = structures(tissue)
            affine = SPACING.copy()
            affine[:3, 3] = 40 * (number == 2)
            save_nifti(numbers, affine, case / "LabelsForTraining.nii")
            if number != 3:
                merged = np.array(list(TISSUE.values()), np.uint8)[numbers]
                save_nifti(merged, affine, case / "LabelsForTesting.nii")


def structures(tissue: np.ndarray) -> np.ndarray:
    """Draw the official structures from tissues: each is halved, and the lowest slices are cerebellum and brain stem.

    Args:
        tissue: (i, j, k), 0 background, 1 fluid, 2 grey and 3 white matter; i from left to right.
    """
    left = np.arange(tissue.shape[0]).reshape(-1, 1, 1) < tissue.shape[0] // 2
    low = np.arange(tissue.shape[2]) < 2
    numbers = np.where(left, np.array([0, 5, 1, 3])[tissue], np.array([0, 6, 2, 4])[tissue])
    return np.where(low & (tissue > 1), np.where(left, 7, 8), numbers).astype(np.uint8)
