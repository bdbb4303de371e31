"""ISIC 2019: eight diagnoses in 25 331 dermoscopic images of HAM10000, BCN20000 and MSK."""

from __future__ import annotations

from pathlib import Path

from medresnet3d.data.preparation.cohort import Cohort
from medresnet3d.data.preparation.mimics import generator, picture, write_picture, write_table
from medresnet3d.data.preparation.tables import Row, find_optional_table, find_table, number, one_hot, read_table

DIAGNOSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
COLUMNS = {"image": "image", **{name: name for name in (*DIAGNOSES, "UNK")}}
METADATA = {"image": "image", "age": "age_approx", "site": "anatom_site_general", "lesion": "lesion_id", "sex": "sex"}


def collect(cohort: Cohort) -> None:
    """List the images of the tables; images of one lesion are one group.

    Args:
        cohort: to fill.
    """
    known = _metadata(cohort, "Training", required=True) | _metadata(cohort, "Test", required=False)
    images = cohort.folder.pictures("dermoscopic images", "**", names="ISIC_*")
    for part in ("Training", "Test"):
        find = find_table if part == "Training" else find_optional_table
        table = find(cohort.folder, f"ISIC_2019_{part}_GroundTruth")
        for row in read_table(table, COLUMNS) if table else []:
            image = cohort.find(images, row["image"])
            diagnosis = one_hot(row, DIAGNOSES)
            if image and not diagnosis:
                cohort.drop("unknown diagnosis" if number(row["UNK"]) == 1 else "no diagnosis", row["image"])
            elif image:
                _add(cohort, image, row["image"], diagnosis, part, known.get(row["image"], {}))
    cohort.drop_unused(images, "image without a row in the tables")


def _metadata(cohort: Cohort, part: str, required: bool) -> dict[str, Row]:
    find = find_table if required else find_optional_table
    table = find(cohort.folder, f"ISIC_2019_{part}_Metadata")
    return {row["image"]: row for row in read_table(table, METADATA, optional=["lesion"])} if table else {}


def _add(cohort: Cohort, image: Path, name: str, diagnosis: str, part: str, known: Row) -> None:
    label = diagnosis
    if cohort.task.name == "melanoma":
        label = "melanoma" if diagnosis == "MEL" else "other"
    cohort.add(
        image,
        section="training" if part == "Training" else "test",
        patient=known.get("lesion") or name,
        label=label,
        diagnosis=diagnosis,
        age=number(known.get("age", "")),
        sex=known.get("sex"),
        site=known.get("site"),
    )


def mimic(folder: Path, seed: int) -> None:
    """Write the training part: names with and without ``_downsampled``, images with and without a lesion."""
    rng = generator(seed, "isic2019")
    rows: list[tuple[object, ...]] = [("image", *DIAGNOSES, "UNK")]
    people: list[tuple[object, ...]] = [("image", "age_approx", "anatom_site_general", "lesion_id", "sex")]
    for index in range(32):
        kind = index % 8
        name = f"ISIC_{index:07d}" + ("_downsampled" if index % 3 == 0 else "")
        write_picture(folder / "ISIC_2019_Training_Input" / f"{name}.jpg", picture(rng, kind=kind))
        rows.append((name, *(float(kind == other) for other in range(8)), 0.0))
        lesion = f"BCN_{index % 16:07d}" if index % 5 else ""
        people.append((name, "" if index == 1 else 55.0, "anterior torso", lesion, "female"))
    write_table(folder / "ISIC_2019_Training_GroundTruth.csv", rows)
    write_table(folder / "ISIC_2019_Training_Metadata.csv", people)
