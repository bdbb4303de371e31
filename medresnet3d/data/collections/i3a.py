"""I3A task 1 (ICIP 2013, ICPR 2014 and 2016): 13 596 HEp-2 cells of 83 specimens (Hobson et al. 2015)."""

from __future__ import annotations

from pathlib import Path

from medresnet3d.data.cases import stem
from medresnet3d.data.preparation.cohort import Cohort
from medresnet3d.data.preparation.folders import PICTURES, Pictures
from medresnet3d.data.preparation.mimics import disc, generator, picture, write_picture, write_table
from medresnet3d.data.preparation.tables import Row, find_table, read_table

COLUMNS = {
    "number": ("id", "image id", "cell id"),
    "label": ("image class", "class", "pattern", "label"),
    "specimen": ("specimen id", "specimen"),
}
CLASSES = ("Homogeneous", "Speckled", "Nucleolar", "Centromere", "NuMem", "Golgi")
BLOCK = 150
"""Cells of one class with numbers in succession that count as one group where no specimens are named: about as many as
a specimen has (13 596 cells of 83)."""


def collect(cohort: Cohort) -> None:
    """List the cells of the table; cells of one specimen are one group, as far as the table names specimens.

    Args:
        cohort: to fill.
    """
    rows = read_table(find_table(cohort.folder, "gt_training"), COLUMNS, optional=["specimen"])
    found = cohort.folder.require("images of cells", *(f"*{suffix}" for suffix in PICTURES))
    images = Pictures(path for path in found if not stem(path).lower().endswith("_mask"))
    rows.sort(key=lambda row: int(row["number"]) if row["number"].isdecimal() else 0)
    groups = _groups(cohort, rows)
    for row, group in zip(rows, groups, strict=True):
        image = cohort.find(images, row["number"].zfill(5))
        label = cohort.pick({name: name for name in CLASSES}, row["label"], row["number"]) if image else None
        if image and label:
            cohort.add(image, patient=group, label=label)
    cohort.drop_unused(images, "cell without a row in the table")


def _groups(cohort: Cohort, rows: list[Row]) -> list[str]:
    """The specimen of each row, or the block of cells that stands for it."""
    if all(row["specimen"] for row in rows):
        return [f"specimen{row['specimen']}" for row in rows]
    cohort.group_kind = "block of cells in succession"
    cohort.warn(
        f"The table names no specimens: {BLOCK} cells of one class in succession are a group, and neighbouring groups "
        "may share a specimen, so results are too good."
    )
    groups, count = [], dict.fromkeys((row["label"] for row in rows), 0)
    for row in rows:
        groups.append(f"{row['label']}{count[row['label']] // BLOCK}")
        count[row["label"]] += 1
    return groups


def mimic(folder: Path, seed: int) -> None:
    """Write four cells of each class, of two specimens, with masks among the images."""
    rng = generator(seed, "i3a")
    rows: list[tuple[object, ...]] = [("Id", "Image class", "Specimen ID")]
    for index in range(4 * len(CLASSES)):
        number, kind = index + 1, index // 4
        write_picture(folder / "training" / f"{number:05d}.png", picture(rng, (18, 18), colour=False, kind=kind))
        write_picture(folder / "training" / f"{number:05d}_Mask.png", disc((18, 18), (9, 9), 7))
        rows.append((number, CLASSES[kind], 1 + index // 2))
    write_table(folder / "gt_training.csv", rows)
