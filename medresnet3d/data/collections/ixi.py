"""IXI: brain MRI of nearly 600 healthy people from three hospitals in London (brain-development.org)."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from medresnet3d.data.preparation.cohort import Cohort, Known
from medresnet3d.data.preparation.folders import Pictures
from medresnet3d.data.preparation.mimics import generator, write_table
from medresnet3d.data.preparation.tables import Row, find_table, number, read_table
from medresnet3d.data.preparation.volumes import head
from medresnet3d.errors import ConfigError
from medresnet3d.io import save_nifti

COLUMNS = {
    "person": "IXI_ID",
    "sex": ("SEX_ID (1=m, 2=f)", "SEX_ID"),
    "height": "HEIGHT",
    "weight": "WEIGHT",
    "ethnic_id": "ETHNIC_ID",
    "age": "AGE",
}
SEXES = {"1": "male", "2": "female"}
MODALITIES = ("T1", "T2", "PD", "MRA")
SAME_AGE = 1.0
"""Years by which repeated rows of one person may differ."""

NAME = len("IXI002")
SAGITTAL = np.array([[0, 0, 1.2, -7], [0.9, 0, 0, -7], [0, 0.9, 0, -7], [0, 0, 0, 1.0]])
"""From voxels of the mimic's slices to mm."""


def collect(cohort: Cohort, *, modality: str = "T1") -> None:
    """List the people who have an image and a row.

    Args:
        cohort: to fill.
        modality: T1, T2, PD or MRA.
    """
    if modality not in MODALITIES:
        raise ConfigError(f"ixi: the option modality is {modality!r}; choose one of {', '.join(MODALITIES)}.")
    rows = _rows(cohort)
    patterns = [f"IXI[0-9][0-9][0-9]-*-{modality}.nii{packed}" for packed in (".gz", "")]
    images = Pictures(cohort.folder.require(f"{modality} images", *patterns), key=lambda path: path.name[:NAME])
    for person, row in rows.items():
        path = cohort.find(images, person)
        if path:
            _add(cohort, path, person, row)
    cohort.drop_unused(images, "image without a row in the table")


def _rows(cohort: Cohort) -> dict[str, Row]:
    """One row for each person; repeated rows are counted, and all of a person are left out if they contradict."""
    listed: defaultdict[str, list[Row]] = defaultdict(list)
    optional = ("height", "weight", "ethnic_id")
    for row in read_table(find_table(cohort.folder, "IXI"), COLUMNS, optional=optional):
        value = number(row["person"].upper().removeprefix("IXI"))
        if isinstance(value, int):
            listed[f"IXI{value:03d}"].append(row)
        else:
            cohort.drop("row that names no person", row["person"])
    kept = {}
    for person, rows in listed.items():
        ages = [age for age in (number(row["age"]) for row in rows) if age is not None]
        if (ages and max(ages) - min(ages) > SAME_AGE) or len({row["sex"] for row in rows}) > 1:
            cohort.drop("rows of one person that contradict each other", person, len(rows))
            continue
        if len(rows) > 1:
            cohort.drop("repeated row", person, len(rows) - 1)
        kept[person] = next((row for row in rows if number(row["age"]) is not None), rows[0])
    return kept


def _add(cohort: Cohort, path: Path, person: str, row: Row) -> None:
    age, sex = number(row["age"]), SEXES.get(row["sex"])
    more: Known = {"site": path.name.split("-")[1], "ethnic_id": number(row["ethnic_id"])}
    more |= {key: number(row[key]) or None for key in ("height", "weight")}  # 0 stands for unknown
    if cohort.task.kind == "regression":
        more |= {"label": age, "sex": sex}
    else:
        more |= {"label": cohort.pick(SEXES, row["sex"], person), "age": age}
    if more["label"] is not None:
        cohort.add(path, patient=person, **more)
    elif cohort.task.kind == "regression":
        cohort.drop("no age", person)


def mimic(folder: Path, seed: int) -> None:
    """Write twelve people of three hospitals, with repeated rows, a missing age, a missing image and other images."""
    rng = generator(seed, "ixi")
    header = ["IXI_ID", "SEX_ID (1=m, 2=f)", "HEIGHT", "WEIGHT", "ETHNIC_ID", "MARITAL_ID", "OCCUPATION_ID"]
    rows: list[list[object]] = [[*header, "QUALIFICATION_ID", "DOB", "DATE_AVAILABLE", "STUDY_DATE", "AGE"]]
    for index in range(12):
        number_, site = 2 + 11 * index, ("Guys", "HH", "IOP")[index % 3]
        age: object = "" if index == 5 else round(20.5 + 5.1 * index, 2)
        row = [number_, 1 + index % 2, 170, 70, 1, 4, 1, 5, "1970-02-21", 0 if index == 5 else 1, "2005-11-25", age]
        rows.append(row)
        if index == 3:
            rows.append(row)
        if index == 7:
            continue
        for modality in ("T1", "T2"):
            array, _ = head(rng, (14, 16, 12), kind=index)
            name = f"IXI{number_:03d}-{site}-{700 + 31 * index:04d}-{modality}.nii.gz"
            save_nifti(array, SAGITTAL, folder / f"IXI-{modality}" / name)
    rows.append([999, 2, 0, 0, 1, 1, 1, 1, "1950-01-01", 1, "2006-01-01", 56.1])
    write_table(folder / "IXI.csv", rows)
