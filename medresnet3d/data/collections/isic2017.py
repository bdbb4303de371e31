"""ISIC 2017, part 3: melanoma, seborrheic keratosis or nevus in 2750 dermoscopic images (Codella et al., ISBI 2018)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from medresnet3d.data.preparation.cohort import MASK_MISSING, Cohort, Known
from medresnet3d.data.preparation.folders import Pictures
from medresnet3d.data.preparation.masks import foreground
from medresnet3d.data.preparation.mimics import disc, generator, picture, write_picture, write_table
from medresnet3d.data.preparation.tables import Row, find_optional_table, find_table, number, read_table

COLUMNS = {"image": "image_id", "melanoma": "melanoma", "seborrheic keratosis": "seborrheic_keratosis"}
METADATA = {"image": "image_id", "age": "age_approximate", "sex": "sex"}
PARTS = {"Training": "training", "Validation": "validation", "Test_v2": "test"}


def collect(cohort: Cohort) -> None:
    """List the images of the three tables; an image of neither class is a nevus.

    Args:
        cohort: to fill.
    """
    find_table(cohort.folder, "ISIC-2017_Training_Part3_GroundTruth")
    images = cohort.folder.pictures("dermoscopic images", "**", names="ISIC_???????")
    masks = Pictures(cohort.folder.files("ISIC_???????_segmentation.png"))
    for part, section in PARTS.items():
        table = find_optional_table(cohort.folder, f"ISIC-2017_{part}_Part3_GroundTruth")
        metadata = find_optional_table(cohort.folder, f"ISIC-2017_{part}_Data_metadata")
        known = {row["image"]: row for row in read_table(metadata, METADATA)} if metadata else {}
        for row in read_table(table, COLUMNS) if table else []:
            image = cohort.find(images, row["image"])
            truth = _truth(cohort, row, masks) if image else None
            if image and truth:
                more = known.get(row["image"], {"age": "", "sex": ""})
                person: Known = {"age": number(more["age"]), "sex": more["sex"]}
                cohort.add(image, section=section, patient=row["image"], **person, **truth)
    cohort.drop_unused(images, "image without a row in the tables")


def _truth(cohort: Cohort, row: Row, masks: Pictures) -> Known | None:
    if cohort.task.kind == "segmentation":
        mask = cohort.find(masks, f"{row['image']}_segmentation", MASK_MISSING)
        return {"mask": cohort.label_map(row["image"], partial(foreground, mask))} if mask else None
    marked = [name for name in ("melanoma", "seborrheic keratosis") if number(row[name]) == 1]
    if len(marked) > 1:
        cohort.drop("two diagnoses", row["image"])
        return None
    diagnosis = marked[0] if marked else "nevus"
    if cohort.task.name == "melanoma":
        return {"label": "melanoma" if diagnosis == "melanoma" else "other", "diagnosis": diagnosis}
    return {"label": diagnosis}


def mimic(folder: Path, seed: int) -> None:
    """Write the three parts with superpixel pictures among the images, and masks of part 1."""
    rng = generator(seed, "isic2017")
    for part, first in (("Training", 0), ("Validation", 100), ("Test_v2", 200)):
        rows: list[tuple[object, ...]] = [("image_id", "melanoma", "seborrheic_keratosis")]
        people: list[tuple[object, ...]] = [("image_id", "age_approximate", "sex")]
        for index in range(first, first + 6):
            name = f"ISIC_{index:07d}"
            data = folder / f"ISIC-2017_{part}_Data"
            write_picture(data / f"{name}.jpg", picture(rng, kind=index % 3))
            write_picture(data / f"{name}_superpixels.png", picture(rng))
            mask = folder / f"ISIC-2017_{part}_Part1_GroundTruth" / f"{name}_segmentation.png"
            write_picture(mask, disc((40, 48), (20, 24), 8))
            rows.append((name, float(index % 3 == 1), float(index % 3 == 2)))
            people.append((name, "unknown" if index % 3 else 55, "female"))
        write_table(folder / f"ISIC-2017_{part}_Part3_GroundTruth.csv", rows)
        write_table(folder / f"ISIC-2017_{part}_Data" / f"ISIC-2017_{part}_Data_metadata.csv", people)
