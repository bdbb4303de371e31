"""A table with one row an image: the importer for whatever has no adapter of its own."""

from __future__ import annotations

from pathlib import Path

from medresnet3d.data.cases import natural_key
from medresnet3d.data.manifest_rules import SECTION_NAMES
from medresnet3d.data.preparation.cohort import IMAGE_MISSING, MASK_MISSING, Cohort, Known
from medresnet3d.data.preparation.folders import Pictures
from medresnet3d.data.preparation.mimics import disc, generator, picture, write_picture, write_table
from medresnet3d.data.preparation.tables import Row, find_table, number, read_table
from medresnet3d.io.reading import KNOWN_SUFFIXES

RESERVED = ("image", "label", "mask", "patient", "section", "fold", "boxes", "position")
"""Keys of a manifest's entry that a further column must not take."""


def collect(
    cohort: Cohort,
    *,
    table: str = "*",
    image: str = "image",
    label: str = "label",
    target: str = "target",
    mask: str = "mask",
    patient: str = "patient",
    section: str = "section",
    fold: str = "fold",
    classes: str = "background,foreground",
) -> None:
    """List the rows of a table; columns that are not named here are carried along under their own names.

    Args:
        cohort: to fill.
        table: name of the table without suffix, where the folder holds several.
        image: column with the path below the table's folder, or a file name, with or without suffix, from anywhere.
        label: column with the class.
        target: column with the number to regress.
        mask: column with the label map, for segmentation.
        patient: column with the patient; without it every image is a group of its own.
        section: column with the part of the split: train, val or test.
        fold: column with the number of the fold.
        classes: for segmentation, the names of the values of the label maps, from 0.
    """
    path = cohort.folder.given or find_table(cohort.folder, table)
    truth = {"classification": ("label", label), "regression": ("label", target), "segmentation": ("mask", mask)}
    key, column = truth[cohort.task.kind]
    columns = {"image": image, key: column, "patient": patient, "section": section, "fold": fold}
    rows = read_table(path, columns, optional=("patient", "section", "fold"), rest=True)
    if cohort.task.kind == "segmentation":
        cohort.labels = tuple(name.strip() for name in classes.split(","))
    elif cohort.task.kind == "classification":
        cohort.labels = tuple(sorted({row["label"] for row in rows if row["label"]}, key=natural_key))
    if any(row["patient"] for row in rows):
        cohort.group_kind = "patient"
    else:
        cohort.warn(f"The table has no column {patient!r}, so every image is a group of its own.")
    everything = cohort.folder.files(*(f"*{suffix}" for suffix in KNOWN_SUFFIXES))
    by_stem, by_name = Pictures(everything), Pictures(everything, key=lambda file: file.name)
    for row in rows:
        _add(cohort, row, path.parent, by_stem, by_name)


def _add(cohort: Cohort, row: Row, base: Path, by_stem: Pictures, by_name: Pictures) -> None:
    more: Known = {key: value for key, value in row.items() if key not in RESERVED}
    paths: dict[str, Path] = {}
    for key, reason in (("image", IMAGE_MISSING), ("mask", MASK_MISSING)):
        if row.get(key) and (key == "image" or cohort.task.kind == "segmentation"):
            there = (base / row[key]).resolve()
            found = there if there.is_file() else by_name.get(Path(row[key]).name) or by_stem.get(Path(row[key]).name)
            if found is None:
                cohort.drop(reason, row[key])
                return
            paths[key] = found
    truth = _truth(cohort, row, paths)
    if truth is None or "image" not in paths:
        cohort.drop("no truth" if truth is None else "no image named", row["image"])
        return
    fold = number(row["fold"])
    cohort.add(
        paths["image"],
        section=SECTION_NAMES.get(row["section"].casefold(), "training"),
        patient=row["patient"] or row["image"],
        fold=None if fold is None else int(fold),
        **truth,
        **more,
    )


def _truth(cohort: Cohort, row: Row, paths: dict[str, Path]) -> Known | None:
    """The truth of a row as keyword arguments, or ``None`` if it has none."""
    if cohort.task.kind == "segmentation":
        return {"mask": paths["mask"]} if "mask" in paths else None
    value = row["label"] if cohort.task.kind == "classification" else number(row["label"])
    return {"label": value} if value not in (None, "") else None


def mimic(folder: Path, seed: int) -> None:
    """Write eight images with a table of class, number and mask; a row names an image that is not there."""
    rng = generator(seed, "csv")
    rows: list[tuple[object, ...]] = [("image", "mask", "label", "patient", "target", "age")]
    for index in range(8):
        write_picture(folder / "images" / f"{index}.png", picture(rng, kind=4 * (index % 2)))
        write_picture(folder / "masks" / f"{index}.png", disc((40, 48), (20, 24), 8, value=1))
        files = (f"images/{index}.png", f"masks/{index}.png")
        rows.append((*files, ("benign", "malignant")[index % 2], f"p{index // 2}", 40.5 + index, 50))
    rows.append(("images/lost.png", "masks/lost.png", "benign", "p9", 50, 50))
    write_table(folder / "table.csv", rows, separator=";")
