"""Messidor: 1200 graded fundus photographs of three French hospitals (Decencière et al., IAS 2014)."""

from __future__ import annotations

import re
from pathlib import Path

from medresnet3d.data.preparation.cohort import Cohort, Known
from medresnet3d.data.preparation.folders import PICTURES, Pictures
from medresnet3d.data.preparation.mimics import generator, picture, write_picture, write_table
from medresnet3d.data.preparation.tables import SPREADSHEETS, TEXT_SUFFIXES, Row, level, read_table

COLUMNS = {
    "image": "Image name",
    "department": "Ophthalmologic department",
    "retinopathy": "Retinopathy grade",
    "edema": "Risk of macular edema",
}
CORRECTED = {
    "20051020_64007_0100_PP": 3,
    "20051020_63936_0100_PP": 1,
    "20051020_63045_0100_PP": 0,
    "20060523_48477_0100_PP": 3,
}
"""Retinopathy grades of the errata that ADCIS publishes with the data set."""

DUPLICATES = tuple(
    f"2005120{name}_0400_PP"
    for name in (
        *("2_41076", "2_48287", "2_48575", "2_48586", "2_54547", "2_54783", "2_55457"),
        *("2_55484", "2_55562", "2_55582", "2_55626", "5_32966", "5_32981"),
    )
)
"""Photographs of Base33 that the errata names as copies of others."""


def collect(cohort: Cohort) -> None:
    """List the photographs of the twelve tables, corrected by the errata.

    Args:
        cohort: to fill.
    """
    tables = _tables(cohort)
    images = Pictures(
        cohort.folder.require("fundus photographs", *(f"*_*_*{suffix}" for suffix in PICTURES)),
        key=lambda path: f"{_base(path.parent.as_posix())}/{path.stem}",
    )
    for base, table in tables.items():
        for row in read_table(table, COLUMNS, optional=["department"]):
            name = Path(row["image"]).stem
            image = images.get(f"/{name}") or cohort.find(images, f"{base}/{name}")
            if image and base == "33" and name in DUPLICATES:
                cohort.drop("copy by the errata", name)
            elif image:
                _add(cohort, image, name, row, base)
    cohort.drop_unused(images, "image without a row in the tables")


def _tables(cohort: Cohort) -> dict[str, Path]:
    """The table of each base; an update comes before the original, text before a spreadsheet."""
    patterns = [f"Annotation*Base*{suffix}" for suffix in (*SPREADSHEETS, *TEXT_SUFFIXES)]
    found = cohort.folder.require("tables Annotation_Base11.xls to Annotation_Base34.xls", *patterns)
    order = sorted(found, key=lambda path: ("update" in path.name.lower(), path.suffix.lower() in TEXT_SUFFIXES))
    return {_base(path.name): path for path in order}


def _base(text: str) -> str:
    """The number of the base that a path names last, ``"11"`` to ``"34"``."""
    return next(iter(re.findall(r"base[ _]?(\d\d)", text, re.IGNORECASE)[::-1]), "")


def _add(cohort: Cohort, image: Path, name: str, row: Row, base: str) -> None:
    retinopathy, edema = CORRECTED.get(name, level(row["retinopathy"], 3)), level(row["edema"], 2)
    grade = edema if cohort.task.name == "edema" else retinopathy
    if grade is None:
        cohort.drop("no grade", name)
        return
    label = cohort.labels[int(grade >= 2) if cohort.task.name == "referable" else grade]
    more: Known = {"retinopathy": retinopathy, "edema": edema, "department": row["department"], "base": f"Base{base}"}
    cohort.add(image, patient=name, label=label, **more)


def mimic(folder: Path, seed: int) -> None:
    """Write two bases with spreadsheets, one of them updated, a corrected grade and a copy of the errata."""
    rng = generator(seed, "messidor")
    header = ("Image name", "Ophthalmologic department", "Retinopathy grade", "Risk of macular edema ")
    special = {11: next(iter(CORRECTED)), 33: DUPLICATES[0]}
    for base, extra in special.items():
        names = [*(f"200{base}12{index}_4380{index}_0100_PP" for index in range(8)), extra]
        for name in names:
            write_picture(folder / f"Base{base}" / f"{name}.tif", picture(rng, (30, 45)))
        rows = [(f"{name}.tif", "Lariboisi\u00e8re", index % 4, index % 3) for index, name in enumerate(names)]
        write_table(folder / f"Annotation_Base{base}.xls", [header, *rows])
        if base == 11:
            write_table(folder / f"Annotation_Base{base}_update2016.xls", [header, *rows[::-1]])
