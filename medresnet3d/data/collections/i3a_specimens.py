"""I3A task 2 (ICPR 2014): 1008 images of 252 HEp-2 specimens, four fields each, with masks of the cells."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from medresnet3d.data.cases import stem
from medresnet3d.data.preparation.cohort import MASK_MISSING, Cohort
from medresnet3d.data.preparation.folders import PICTURES, Pictures
from medresnet3d.data.preparation.masks import foreground
from medresnet3d.data.preparation.mimics import disc, generator, picture, write_picture, write_table
from medresnet3d.data.preparation.tables import find_table, read_table

COLUMNS = {
    "specimen": ("specimen id", "specimen", "id", "image id"),
    "label": ("image class", "class", "pattern", "label", "specimen class"),
}
SPELLINGS = {
    **{name: name for name in ("Homogeneous", "Speckled", "Nucleolar", "Centromere", "Golgi", "NuMem", "MitSp")},
    "nuclear membrane": "NuMem",
    "mitotic spindle": "MitSp",
}
FIELD = re.compile(r"0*(\d+)[_-]p?(\d)", re.IGNORECASE)
"""A field of view: the specimen's number and the number of the field."""


def collect(cohort: Cohort) -> None:
    """List the fields of view; the four of a specimen are one group.

    Args:
        cohort: to fill.
    """
    rows = read_table(find_table(cohort.folder, "gt_training"), COLUMNS)
    classes = {row["specimen"].lstrip("0"): row["label"] for row in rows}
    found = cohort.folder.require("fields of specimens", *(f"*{suffix}" for suffix in PICTURES))
    masks = Pictures(path for path in found if stem(path).lower().endswith("_mask"))
    for image in (path for path in found if not stem(path).lower().endswith("_mask")):
        match = FIELD.fullmatch(stem(image))
        specimen = match.group(1) if match else ""
        if specimen not in classes:
            cohort.drop("field without a row in the table", image.name)
            continue
        pattern = cohort.pick(SPELLINGS, classes[specimen], image.name)
        if pattern and cohort.task.kind == "segmentation":
            mask = cohort.find(masks, f"{stem(image)}_mask", MASK_MISSING)
            if mask:
                drawn = cohort.label_map(stem(image), partial(foreground, mask))
                cohort.add(image, patient=specimen, mask=drawn, pattern=pattern)
        elif pattern:
            cohort.add(image, patient=specimen, label=pattern)


def mimic(folder: Path, seed: int) -> None:
    """Write four fields of two specimens of each class, with masks among the images."""
    rng = generator(seed, "i3a_specimens")
    rows: list[tuple[object, ...]] = [("Specimen ID", "Class")]
    names = ("Homogeneous", "Speckled", "Nucleolar", "Centromere", "Golgi", "NuMem", "MitSp")
    for index in range(2 * len(names)):
        for field in range(1, 5):
            name = f"{index + 1:03d}_p{field}"
            write_picture(folder / "training" / f"{name}.png", picture(rng, (26, 28), colour=False, kind=index // 2))
            write_picture(folder / "training" / f"{name}_Mask.png", disc((26, 28), (13, 14), 8))
        rows.append((index + 1, names[index // 2]))
    write_table(folder / "gt_training.csv", rows)
