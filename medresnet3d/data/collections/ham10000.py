"""HAM10000: 10 015 dermoscopic images of 7 470 lesions (Tschandl et al., Scientific Data 2018)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from medresnet3d.data.preparation.cohort import MASK_MISSING, Cohort, Known
from medresnet3d.data.preparation.folders import Pictures
from medresnet3d.data.preparation.masks import foreground
from medresnet3d.data.preparation.mimics import disc, generator, picture, write_picture, write_table
from medresnet3d.data.preparation.tables import Row, find_table, number, read_table

DIAGNOSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
COLUMNS = {
    "image": "image_id",
    "lesion": "lesion_id",
    "diagnosis": "dx",
    "confirmed_by": "dx_type",
    "age": "age",
    "sex": "sex",
    "site": "localization",
}


def collect(cohort: Cohort) -> None:
    """List the images of the metadata table; several images of one lesion are one group.

    Args:
        cohort: to fill.
    """
    rows = read_table(find_table(cohort.folder, "HAM10000_metadata"), COLUMNS)
    images = cohort.folder.pictures("dermoscopic images", "**", names="ISIC_???????")
    masks = Pictures(cohort.folder.files("ISIC_???????_segmentation.png"))
    for row in rows:
        image = cohort.find(images, row["image"])
        truth = _truth(cohort, row, masks) if image else None
        if image and truth:
            known: Known = {key: row[key] for key in ("diagnosis", "confirmed_by", "sex", "site")}
            cohort.add(image, patient=row["lesion"], age=number(row["age"]), **truth, **known)
    cohort.drop_unused(images, "image without a row in the table")


def _truth(cohort: Cohort, row: Row, masks: Pictures) -> Known | None:
    """The truth of a row as keyword arguments; ``None``, and counted, where it has none."""
    if cohort.task.kind == "segmentation":
        mask = cohort.find(masks, f"{row['image']}_segmentation", MASK_MISSING)
        return {"mask": cohort.label_map(row["image"], partial(foreground, mask))} if mask else None
    classes = {name: name for name in DIAGNOSES}
    if cohort.task.name == "melanoma":
        classes = {name: "melanoma" if name == "mel" else "other" for name in DIAGNOSES}
    label = cohort.pick(classes, row["diagnosis"], row["image"])
    return {"label": label} if label else None


def mimic(folder: Path, seed: int) -> None:
    """Write four images of each diagnosis, two of them of one lesion, in both folders, with lesion masks."""
    rng = generator(seed, "ham10000")
    rows: list[list[str]] = [["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"]]
    for index in range(4 * len(DIAGNOSES)):
        kind, image = index // 4, f"ISIC_{24306 + index:07d}"
        lesion = f"HAM_{3 * kind + max(index % 4 - 1, 0):07d}"
        write_picture(folder / f"HAM10000_images_part_{1 + index % 2}" / f"{image}.jpg", picture(rng, kind=kind))
        mask = disc((40, 48), (20, 24), 8)
        write_picture(folder / "HAM10000_segmentations_lesion_tschandl" / f"{image}_segmentation.png", mask)
        age, sex = "" if index == 3 else f"{40 + index}.0", ("male", "female", "unknown")[index % 3]
        rows.append([lesion, image, DIAGNOSES[kind], "histo", age, sex, "back"])
    write_table(folder / "HAM10000_metadata", rows)
