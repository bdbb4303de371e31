"""APTOS 2019: 3662 graded fundus photographs from India (Kaggle competition), with copies among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medresnet3d.data.preparation.cohort import Cohort
from medresnet3d.data.preparation.copies import drop_copies, near_duplicate_groups
from medresnet3d.data.preparation.mimics import generator, write_picture, write_table
from medresnet3d.data.preparation.tables import find_table, level, read_table


def collect(cohort: Cohort, *, near_duplicates: bool = True) -> None:
    """List the graded photographs; those that look the same are one group.

    Args:
        cohort: to fill.
        near_duplicates: group photographs that look the same; all of them are read for it.
    """
    rows = read_table(find_table(cohort.folder, "train"), {"image": "id_code", "grade": "diagnosis"})
    images = cohort.folder.pictures("fundus photographs", "train_images/**")
    labelled = []
    for row in rows:
        image = cohort.find(images, row["image"])
        if image and level(row["grade"], 4) is None:
            cohort.drop("no grade", row["image"])
        elif image:
            labelled.append((image, row["grade"]))
    cohort.drop_unused(images, "image without a row in the table")
    hidden = cohort.folder.files("test_images/**/*.png")
    if hidden:
        cohort.drop("test image whose grade is not public", hidden[0].name, len(hidden))
    kept = drop_copies(cohort, labelled)
    groups = near_duplicate_groups([path for path, _ in kept]) if near_duplicates else range(len(kept))
    for group, (path, text) in zip(groups, kept, strict=True):
        grade = int(float(text))
        label = cohort.labels[int(grade >= 2) if cohort.task.name == "referable" else grade]
        cohort.add(path, patient=f"group{group}", label=label, grade=grade)


def mimic(folder: Path, seed: int) -> None:
    """Write four photographs of each grade, an exact copy, a re-encoded copy, and copies of different grades."""
    rng = generator(seed, "aptos")
    rows: list[tuple[object, ...]] = [("id_code", "diagnosis")]
    for index in range(20):
        pixels = rng.integers(30, 220, (40, 44, 3)).astype(np.uint8)
        name, grade = f"{index:012x}", index % 5
        write_picture(folder / "train_images" / f"{name}.png", pixels)
        rows.append((name, grade))
        if index in (0, 1, 2):
            changed = np.clip(pixels.astype(int) + 3 * (index == 2), 0, 255).astype(np.uint8)
            write_picture(folder / "train_images" / f"c{name}.png", changed)
            rows.append((f"c{name}", grade + (index == 1)))
    write_table(folder / "train.csv", rows)
    write_picture(folder / "test_images" / "0005cfc8afb6.png", rng.integers(30, 220, (40, 44, 3)).astype(np.uint8))
    write_table(folder / "test.csv", [("id_code",), ("0005cfc8afb6",)])
