"""ISIC 2018, task 3: seven diagnoses in the images of HAM10000 and a test set (Codella et al., arXiv:1902.03368)."""

from __future__ import annotations

from pathlib import Path

from medresnet3d.data.preparation.cohort import Cohort
from medresnet3d.data.preparation.mimics import generator, picture, write_picture, write_table
from medresnet3d.data.preparation.tables import find_optional_table, find_table, one_hot, read_table

DIAGNOSES = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
COLUMNS = {"image": "image", **{name: name for name in DIAGNOSES}}
PARTS = {"Training": "training", "Validation": "validation", "Test": "test"}


def collect(cohort: Cohort) -> None:
    """List the images of the tables; images of one lesion are one group.

    Args:
        cohort: to fill.
    """
    find_table(cohort.folder, "ISIC2018_Task3_Training_GroundTruth")
    groupings = find_table(cohort.folder, "ISIC2018_Task3_Training_LesionGroupings")
    lesions = {row["image"]: row["lesion"] for row in read_table(groupings, {"image": "image", "lesion": "lesion_id"})}
    images = cohort.folder.pictures("dermoscopic images", "**", names="ISIC_???????")
    for part, section in PARTS.items():
        table = find_optional_table(cohort.folder, f"ISIC2018_Task3_{part}_GroundTruth")
        for row in read_table(table, COLUMNS) if table else []:
            image = cohort.find(images, row["image"])
            diagnosis = one_hot(row, DIAGNOSES)
            if image and not diagnosis:
                cohort.drop("no diagnosis, or several", row["image"])
            elif image:
                label = diagnosis
                if cohort.task.name == "melanoma":
                    label = "melanoma" if diagnosis == "MEL" else "other"
                patient = lesions.get(row["image"], row["image"])
                cohort.add(image, section=section, patient=patient, label=label, diagnosis=diagnosis)
    cohort.drop_unused(images, "image without a row in the tables")


def mimic(folder: Path, seed: int) -> None:
    """Write the parts, with two images of each lesion in the training part and an image that no row names."""
    rng = generator(seed, "isic2018")
    lesions: list[tuple[str, ...]] = [("image", "lesion_id", "diagnosis_confirm_type")]
    for part, first in (("Training", 24306), ("Validation", 34321), ("Test", 34524)):
        rows: list[tuple[object, ...]] = [("image", *DIAGNOSES)]
        for index in range(28 if part == "Training" else 7):
            name = f"ISIC_{first + index:07d}"
            kind = index % 7
            write_picture(folder / f"ISIC2018_Task3_{part}_Input" / f"{name}.jpg", picture(rng, kind=kind))
            rows.append((name, *(float(kind == other) for other in range(7))))
            if part == "Training":
                lesions.append((name, f"HAM_{index % 14:07d}", "histopathology"))
        truth = f"ISIC2018_Task3_{part}_GroundTruth"
        write_table(folder / truth / f"{truth}.csv", rows)
    write_table(folder / "ISIC2018_Task3_Training_LesionGroupings.csv", lesions)
    write_picture(folder / "ISIC2018_Task3_Test_Input" / "ISIC_0099999.jpg", picture(rng))
