"""Raabin-WBC: five kinds of leukocytes in a training and two test parts (Kouzehkanan et al., Sci. Rep. 2022)."""

from __future__ import annotations

import re
from pathlib import Path

from medresnet3d.data.cases import stem
from medresnet3d.data.preparation.cohort import Cohort
from medresnet3d.data.preparation.folders import PICTURES
from medresnet3d.data.preparation.mimics import generator, picture, write_picture

CELLS = ("Basophil", "Eosinophil", "Lymphocyte", "Monocyte", "Neutrophil")
PARTS = {"train": "training", "testa": "test", "testb": "test"}
PHOTOGRAPH = re.compile(r"(\d{8}_\d{6}|\d+-\d+-\d+-\d+_\d+)_\d+")
"""A photograph, named after its time or its slide, with the number of the cell that was cropped from it."""


def collect(cohort: Cohort, *, test: str = "both") -> None:
    """List the three parts; cells that were cropped from one photograph are one group.

    Args:
        cohort: to fill.
        test: ``TestA`` (the microscope of the training part), ``TestB`` (another one) or ``both``; the part is kept as
            ``part``.
    """
    patterns = [f"{part}/{cell}/*{suffix}" for part in ("train", "test*") for cell in CELLS for suffix in PICTURES]
    for path in cohort.folder.require("cells below Train, TestA or TestB", *patterns):
        part = re.sub(r"[^a-z]", "", path.parts[-3].lower())
        section = PARTS.get(part)
        if section is None or (section == "test" and test.lower() not in ("both", part)):
            cohort.drop(f"in the part {path.parts[-3]}", path.name)
            continue
        found = PHOTOGRAPH.fullmatch(stem(path))
        cell = path.parent.name.capitalize()
        group = found.group(1) if found else f"{part}_{cell}_{stem(path)}"
        cohort.add(path, section=section, patient=group, label=cell, part=path.parts[-3])
    cohort.warn("No patient is named: cells of one photograph are a group, but slides and patients are not known.")


def mimic(folder: Path, seed: int) -> None:
    """Write cells of the three parts, two of each photograph in the training part."""
    rng = generator(seed, "raabin")
    for part, first, count in (("Train", 100000, 6), ("TestA", 200000, 2), ("TestB", 300000, 1)):
        for kind, cell in enumerate(CELLS):
            for number in range(count):
                name = f"20190526_{first + 100 * kind + number // 2}_{number}.jpg"
                write_picture(folder / part / cell / name, picture(rng, (30, 30), kind=kind))
