"""ISIC 2016, part 3: melanoma or not in 900 + 379 dermoscopic images (Gutman et al., arXiv:1605.01397)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from medresnet3d.data.preparation.cohort import MASK_MISSING, Cohort, Known
from medresnet3d.data.preparation.folders import Pictures
from medresnet3d.data.preparation.masks import foreground
from medresnet3d.data.preparation.mimics import disc, generator, picture, write_picture, write_table
from medresnet3d.data.preparation.tables import Row, find_table, read_table

COLUMNS = ("image", "label")
CLASSES = {
    **dict.fromkeys(("benign", "0", "0.0"), "benign"),
    **dict.fromkeys(("malignant", "1", "1.0"), "malignant"),
}
"""The training table says benign and malignant, the test table 0.0 and 1.0."""

PARTS = {"Training": "training", "Test": "test"}


def collect(cohort: Cohort) -> None:
    """List the images of both tables, neither of which has a header.

    Args:
        cohort: to fill.
    """
    tables = {
        section: find_table(
            cohort.folder, *(f"ISBI2016_ISIC_{part}_{name}_GroundTruth" for part in ("Part3", "Part3B"))
        )
        for name, section in PARTS.items()
    }
    images = cohort.folder.pictures("dermoscopic images", "**", names="ISIC_???????")
    masks = Pictures(cohort.folder.files("ISIC_???????_Segmentation.png"))
    for section, table in tables.items():
        for row in read_table(table, {name: name for name in COLUMNS}, header=COLUMNS):
            image = cohort.find(images, row["image"])
            truth = _truth(cohort, row, masks) if image else None
            if image and truth:
                cohort.add(image, section=section, patient=row["image"], **truth)
    cohort.drop_unused(images, "image without a row in the tables")


def _truth(cohort: Cohort, row: Row, masks: Pictures) -> Known | None:
    if cohort.task.kind == "segmentation":
        mask = cohort.find(masks, f"{row['image']}_Segmentation", MASK_MISSING)
        return {"mask": cohort.label_map(row["image"], partial(foreground, mask))} if mask else None
    label = cohort.pick(CLASSES, row["label"], row["image"])
    return {"label": label} if label else None


def mimic(folder: Path, seed: int) -> None:
    """Write part 3 with the two encodings of the label, and the masks of part 3B."""
    rng = generator(seed, "isic2016")
    for part, first, codes in (("Training", 0, ("benign", "malignant")), ("Test", 100, ("0.0", "1.0"))):
        rows = []
        for index in range(first, first + 8):
            name = f"ISIC_{index:07d}"
            image = picture(rng, kind=4 * (index % 2))
            write_picture(folder / f"ISBI2016_ISIC_Part3_{part}_Data" / f"{name}.jpg", image)
            mask = folder / f"ISBI2016_ISIC_Part3B_{part}_Data" / f"{name}_Segmentation.png"
            write_picture(mask, disc((40, 48), (20, 24), 8))
            rows.append((name, codes[index % 2]))
        write_table(folder / f"ISBI2016_ISIC_Part3_{part}_GroundTruth.csv", rows)
