"""ABIDE I: brain MRI of 1112 people with and without autism from 17 sites (Di Martino et al., Mol Psychiatry 2014)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medresnet3d.data.preparation.cohort import Cohort, Known
from medresnet3d.data.preparation.folders import Pictures
from medresnet3d.data.preparation.mimics import generator, write_table
from medresnet3d.data.preparation.tables import Row, find_table, number, read_table
from medresnet3d.data.preparation.volumes import head
from medresnet3d.io import save_nifti

COLUMNS = {
    "person": "SUB_ID",
    "site": "SITE_ID",
    "group": "DX_GROUP",
    "age": "AGE_AT_SCAN",
    "sex": "SEX",
    "hand": "HANDEDNESS_CATEGORY",
    "fiq": "FIQ",
}
GROUPS = {"1": "autism", "2": "control"}
SEXES = {"1": "male", "2": "female"}
MISSING = ("-9999", "-9999.0", "#")
PATTERNS = (
    "session_1/anat_*/mprage.nii.gz",
    "session_1/anat_*/hires.nii.gz",
    "session_1/anat_*/anat.nii.gz",
    "sub-*_T1w.nii.gz",
)
"""The raw release, and the same in the BIDS layout."""


def collect(cohort: Cohort, *, leave_site_out: bool = False, controls: bool = True) -> None:
    """List the people with a T1 image and a row.

    Args:
        cohort: to fill.
        leave_site_out: make each site a fold of its own.
        controls: for age: list people without autism only, as is usual for brain age.
    """
    rows = read_table(find_table(cohort.folder, "Phenotypic_V1_0b*", "participants"), COLUMNS, optional=("hand", "fiq"))
    images = Pictures(cohort.folder.require("T1 images", *PATTERNS), key=_person)
    sites = sorted({row["site"].upper() for row in rows})
    for row in rows:
        path = cohort.find(images, row["person"].lstrip("0"))
        if path:
            _add(cohort, path, row, sites.index(row["site"].upper()) if leave_site_out else None, controls)
    cohort.drop_unused(images, "image without a row in the table")


def _person(path: Path) -> str:
    """The number of a person without leading zeros: 0050002 in folders, 50002 in the table."""
    name = path.name if path.name.startswith("sub-") else path.parents[2].name
    return name.removeprefix("sub-").split("_")[0].lstrip("0")


def _add(cohort: Cohort, path: Path, row: Row, fold: int | None, controls: bool) -> None:
    group, sex = GROUPS.get(row["group"]), SEXES.get(row["sex"])
    age = None if row["age"] in MISSING else number(row["age"])
    more: Known = {"age": age, "sex": sex, "diagnosis": group, "site": row["site"], "fold": fold}
    more |= {key: row[key] for key in ("hand", "fiq") if row[key] not in MISSING}
    person = row["person"].zfill(7)
    if cohort.task.name == "age":
        if controls and group != "control":
            cohort.drop("not a control", person)
            return
        more["label"] = more.pop("age")
    else:
        column, classes = ("sex", SEXES) if cohort.task.name == "sex" else ("group", GROUPS)
        more.pop("sex" if column == "sex" else "diagnosis")
        more["label"] = cohort.pick(classes, row[column], person)
    if more["label"] is not None:
        cohort.add(path, patient=person, **more)
    elif cohort.task.name == "age":
        cohort.drop("no age", person)


def mimic(folder: Path, seed: int) -> None:
    """Write three sites with four people each, of whom one has no age, one no image, and one no row."""
    rng = generator(seed, "abide1")
    header = ["", "SUB_ID", "X", "subject", "SITE_ID", "FILE_ID", "DX_GROUP", "DSM_IV_TR", "AGE_AT_SCAN", "SEX"]
    rows: list[list[object]] = [[*header, "HANDEDNESS_CATEGORY", "FIQ"]]
    for index in range(15):
        site, person = ("PITT", "UM_1", "NYU")[index % 3], 50002 + 7 * index
        age: object = -9999 if index == 4 else 9.5 + index
        file = "no_filename" if index % 2 else f"{site}_{person:07d}"
        row = [index + 1, person, index + 1, person, site, file, 1 + index // 2 % 2, -9999, age, 1 + index % 4 // 3]
        if index != 14:
            rows.append([*row, "R" if index % 2 else -9999, -9999 if index == 3 else 100 + index])
        if index != 11:
            array, _ = head(rng, (14, 16, 12), kind=index)
            target = folder / site / f"{person:07d}" / "session_1" / "anat_1" / "mprage.nii.gz"
            save_nifti(array, np.diag([1.1, 1.1, 1.1, 1.0]), target)
    write_table(folder / "Phenotypic_V1_0b_preprocessed1.csv", rows)
