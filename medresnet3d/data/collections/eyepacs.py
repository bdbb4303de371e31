"""EyePACS: 88 702 graded fundus photographs of both eyes (Kaggle competition of 2015)."""

from __future__ import annotations

from pathlib import Path

from medresnet3d.data.cases import stem
from medresnet3d.data.preparation.cohort import Cohort
from medresnet3d.data.preparation.mimics import generator, picture, write_picture, write_table
from medresnet3d.data.preparation.tables import Row, find_optional_table, find_table, level, read_table

COLUMNS = {"image": "image", "grade": "level", "usage": "Usage"}


def collect(cohort: Cohort) -> None:
    """List the photographs of the tables; both eyes of a patient are one group.

    Args:
        cohort: to fill.
    """
    tables = {"training": find_table(cohort.folder, "trainLabels")}
    solution = find_optional_table(cohort.folder, "retinopathy_solution")
    if solution:
        tables["test"] = solution
    images = cohort.folder.pictures("fundus photographs", "**", names="*_*")
    for section, table in tables.items():
        for row in read_table(table, COLUMNS, optional=["usage"]):
            image = cohort.find(images, row["image"])
            if image:
                _add(cohort, image, row, section)
    cohort.drop_unused(images, "image without a row in the tables")


def _add(cohort: Cohort, image: Path, row: Row, section: str) -> None:
    grade = level(row["grade"], 4)
    patient, _, eye = stem(image).rpartition("_")
    if grade is None:
        cohort.drop("no grade", row["image"])
    elif eye.lower() not in ("left", "right"):
        cohort.drop("neither left nor right in the name", image.name)
    else:
        label = cohort.labels[int(grade >= 2) if cohort.task.name == "referable" else grade]
        cohort.add(image, section=section, patient=patient, label=label, grade=grade, eye=eye, usage=row["usage"])


def mimic(folder: Path, seed: int) -> None:
    """Write both eyes of patients of each grade, and a test part whose grades are in the later table."""
    rng = generator(seed, "eyepacs")
    for part, table, first in (("train", "trainLabels", 10), ("test", "retinopathy_solution", 1)):
        rows: list[tuple[object, ...]] = [("image", "level") if part == "train" else ("image", "level", "Usage")]
        for index in range(10 if part == "train" else 5):
            for eye in ("left", "right"):
                name = f"{first + 2 * index}_{eye}"
                write_picture(folder / part / f"{name}.jpeg", picture(rng, (32, 48), kind=index % 5))
                rows.append((name, index % 5) if part == "train" else (name, index % 5, "Private"))
        write_table(folder / f"{table}.csv", rows)
