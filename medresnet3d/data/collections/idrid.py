"""IDRiD: graded fundus photographs (516) and outlines of lesions (81) from India (Porwal et al., Data 2018)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medresnet3d.data.preparation.cohort import Cohort, Known
from medresnet3d.data.preparation.copies import drop_copies, near_duplicate_groups
from medresnet3d.data.preparation.folders import Pictures
from medresnet3d.data.preparation.masks import layered, picture_shape
from medresnet3d.data.preparation.mimics import disc, generator, picture, write_picture, write_table
from medresnet3d.data.preparation.tables import find_table, level, read_table

COLUMNS = {"image": "Image name", "retinopathy": "Retinopathy grade", "edema": "Risk of macular edema"}
PARTS = {"Training": "training", "Testing": "test"}
LESIONS = {"OD": 5, "HE": 2, "MA": 1, "SE": 4, "EX": 3}
"""Ending of a mask's name to class number; where masks overlap, the later one is drawn over the earlier."""


def collect(cohort: Cohort, *, near_duplicates: bool = True) -> None:
    """List the graded photographs, or (task ``lesions``) those with outlines.

    Args:
        cohort: to fill.
        near_duplicates: group photographs that look the same; they are read for it.
    """
    if cohort.task.kind == "segmentation":
        _lesions(cohort)
    else:
        _grades(cohort, near_duplicates)


def _grades(cohort: Cohort, near_duplicates: bool) -> None:
    """List what the two tables grade; photographs of both parts are numbered from 1."""
    entries: list[tuple[str, Path, Known]] = []
    for part, section in PARTS.items():
        table = find_table(cohort.folder, f"*Disease Grading_{part} Labels")
        images = cohort.folder.pictures("fundus photographs", f"*Grading*/**/*{part}*", names="IDRiD_*")
        for row in read_table(table, COLUMNS):
            image = cohort.find(images, row["image"])
            grades: Known = {"retinopathy": level(row["retinopathy"], 4), "edema": level(row["edema"], 2)}
            if image and None in grades.values():
                cohort.drop("no grade", row["image"])
            elif image:
                entries.append((section, image, grades))
        cohort.drop_unused(images, "image without a row in the table")
    training = [(path, str(grades)) for section, path, grades in entries if section == "training"]
    kept = {path for path, _ in drop_copies(cohort, training)}
    entries = [entry for entry in entries if entry[0] == "test" or entry[1] in kept]
    groups = near_duplicate_groups([path for _, path, _ in entries]) if near_duplicates else range(len(entries))
    for group, (section, path, grades) in zip(groups, entries, strict=True):
        grade = grades["edema" if cohort.task.name == "edema" else "retinopathy"]
        label = cohort.labels[int(grade >= 2) if cohort.task.name == "referable" else grade]
        cohort.add(path, section=section, patient=f"group{group}", label=label, **grades)


def _lesions(cohort: Cohort) -> None:
    """List the photographs with outlines; a lesion without a mask does not occur."""
    for part, section in PARTS.items():
        masks = Pictures(cohort.folder.files(f"*Segmentation*/**/*Groundtruth*/**/*{part}*/**/IDRiD_*.tif"))
        for image in cohort.folder.pictures("fundus photographs", f"*Segmentation*/**/*Images/*{part}*").values():
            parts = [(value, masks.get(f"{image.stem}_{ending}")) for ending, value in LESIONS.items()]
            if not any(mask for _, mask in parts):
                cohort.drop("no mask of any lesion", image.name)
                continue
            drawn = cohort.label_map(f"{section}_{image.stem}", partial(_draw, image, parts))
            cohort.add(image, section=section, patient=f"{section}_{image.stem}", mask=drawn)


def _draw(image: Path, parts: list[tuple[int, Path | None]]) -> NDArray[np.uint8]:
    return layered(picture_shape(image), parts)


def mimic(folder: Path, seed: int) -> None:
    """Write parts A and B with noise in the tables' headers, numbers that start anew, and a lesion without mask."""
    rng = generator(seed, "idrid")
    for part, count, letter in (("Training", 10, "a"), ("Testing", 5, "b")):
        header: list[object] = ["Image name", "Retinopathy grade", "Risk of macular edema ", *[""] * 9]
        rows: list[list[object]] = [header[: 12 if part == "Training" else 3]]
        images = folder / "B. Disease Grading" / "1. Original Images" / f"{letter}. {part} Set"
        for index in range(count):
            name = f"IDRiD_{index + 1:03d}"
            write_picture(images / f"{name}.jpg", rng.integers(30, 220, (28, 42, 3)).astype(np.uint8))
            rows.append([name, index % 5, index % 3, *[""] * (len(rows[0]) - 3)])
        table = f"{letter}. IDRiD_Disease Grading_{part} Labels.csv"
        write_table(folder / "B. Disease Grading" / "2. Groundtruths" / table, rows)
    for index in range(1, 7):
        part = "a. Training Set" if index < 5 else "b. Testing Set"
        name = f"IDRiD_{index:02d}"
        write_picture(folder / "A. Segmentation" / "1. Original Images" / part / f"{name}.jpg", picture(rng, (28, 42)))
        kinds = ("1. Microaneurysms", "2. Haemorrhages", "3. Hard Exudates", "4. Soft Exudates", "5. Optic Disc")
        for at, (kind, ending) in enumerate(zip(kinds, ("MA", "HE", "EX", "SE", "OD"), strict=True)):
            truth = folder / "A. Segmentation" / "2. All Segmentation Groundtruths" / part / kind
            if not (ending == "SE" and index % 2):
                red = np.zeros((28, 42, 3), np.uint8)
                red[..., 0] = disc((28, 42), (6 + 4 * at, 8 + 6 * at), 3)
                write_picture(truth / f"{name}_{ending}.tif", red)
