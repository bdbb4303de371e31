"""BACH (ICIAR 2018): 400 histology images of four classes, 2048 x 1536 pixels (Aresta et al., MedIA 2019)."""

from __future__ import annotations

from pathlib import Path

from medresnet3d.data.preparation.cohort import Cohort
from medresnet3d.data.preparation.mimics import generator, picture, write_picture, write_table
from medresnet3d.data.preparation.tables import find_table, read_table

CLASSES = ("Normal", "Benign", "InSitu", "Invasive")
PREFIXES = {"Normal": "n", "Benign": "b", "InSitu": "is", "Invasive": "iv"}
COLUMNS = ("file", "label")


def collect(cohort: Cohort) -> None:
    """List the images of the table, which has no header.

    Args:
        cohort: to fill.
    """
    table = find_table(cohort.folder, "microscopy_ground_truth")
    images = cohort.folder.pictures("histology images", *(f"Photos/**/{name}" for name in CLASSES))
    carcinoma = {name: "carcinoma" if name in ("InSitu", "Invasive") else "no carcinoma" for name in CLASSES}
    classes = carcinoma if cohort.task.name == "carcinoma" else {name: name for name in CLASSES}
    for row in read_table(table, {name: name for name in COLUMNS}, header=COLUMNS):
        name = Path(row["file"]).stem
        image = cohort.find(images, name)
        label = cohort.pick(classes, row["label"], name) if image else None
        if image and label:
            cohort.add(image, patient=name, label=label)
    cohort.drop_unused(images, "image without a row in the table")
    cohort.warn("Patients are named for a part of the images only: every image is a group of its own, so results leak.")


def mimic(folder: Path, seed: int) -> None:
    """Write four images of each class, the table without header, and a file of the whole-slide part."""
    rng = generator(seed, "bach")
    rows = []
    for kind, (name, prefix) in enumerate(PREFIXES.items()):
        for number in range(1, 5):
            file = f"{prefix}{number:03d}.tif"
            write_picture(
                folder / "ICIAR2018_BACH_Challenge" / "Photos" / name / file, picture(rng, (30, 40), kind=kind)
            )
            rows.append((file, name))
    write_table(folder / "ICIAR2018_BACH_Challenge" / "Photos" / "microscopy_ground_truth.csv", rows)
    write_picture(folder / "ICIAR2018_BACH_Challenge" / "WSI" / "thumbnails" / "A01.png", picture(rng))
