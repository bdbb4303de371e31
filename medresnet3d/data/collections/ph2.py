"""PH2: 200 dermoscopic images of melanocytic lesions with outlines (Mendonça et al., EMBC 2013)."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from medresnet3d.data.preparation.cohort import MASK_MISSING, Cohort
from medresnet3d.data.preparation.folders import PICTURES, Pictures
from medresnet3d.data.preparation.masks import foreground
from medresnet3d.data.preparation.mimics import disc, generator, picture, write_picture
from medresnet3d.data.preparation.tables import find_table, read_lines
from medresnet3d.io.atomic import atomic_write_text

DIAGNOSES = ("common nevus", "atypical nevus", "melanoma")
CASE = re.compile(r"IMD\d+")


def collect(cohort: Cohort) -> None:
    """List the images of the table.

    Args:
        cohort: to fill.
    """
    diagnoses = _diagnoses(find_table(cohort.folder, "PH2_dataset"))
    patterns = [f"*_Dermoscopic_Image/IMD*{suffix}" for suffix in PICTURES]
    images = Pictures(cohort.folder.require("dermoscopic images", *patterns))
    outlines = Pictures(cohort.folder.files(*(f"IMD*_lesion{suffix}" for suffix in PICTURES)))
    for name, diagnosis in diagnoses.items():
        image = cohort.find(images, name)
        if image and cohort.task.kind == "segmentation":
            outline = cohort.find(outlines, f"{name}_lesion", MASK_MISSING)
            if outline:
                mask = cohort.label_map(name, partial(foreground, outline))
                cohort.add(image, patient=name, mask=mask, diagnosis=diagnosis)
        elif image:
            label = diagnosis
            if cohort.task.name == "melanoma":
                label = "melanoma" if diagnosis == "melanoma" else "other"
            cohort.add(image, patient=name, label=label, diagnosis=diagnosis)
    cohort.drop_unused(images, "image without a row in the table")


def _diagnoses(table: Path) -> dict[str, str]:
    """Diagnosis of each case: a number in the text table, a cross in one of three columns of the spreadsheet."""
    found: dict[str, str] = {}
    for line in read_lines(table, separator="|"):
        cells = [cell.strip() for cell in line]
        name = next((cell for cell in cells[:3] if CASE.fullmatch(cell)), None)
        if name is None:
            continue  # headings, and the legend below the table
        if table.suffix.lower() in (".xls", ".xlsx"):
            marks = [bool(cell) for cell in cells[2:5]]
            number = marks.index(True) if any(marks) else None
        else:
            # || name || histological diagnosis || clinical diagnosis || asymmetry | pigment network | ...
            number = int(cells[6]) if cells[6] in ("0", "1", "2") else None
        if number is not None:
            found[name] = DIAGNOSES[number]
    return found


def mimic(folder: Path, seed: int) -> None:
    """Write cases of the three diagnoses, the text table with its legend, and masks of colour classes."""
    rng = generator(seed, "ph2")
    head = "||   Name || Histological Diagnosis || Clinical Diagnosis || Asymmetry | Pigment Network || Colors ||"
    lines = [head]
    for index in range(12):
        name = f"IMD{index + 2:03d}"
        case = folder / "PH2 Dataset images" / name
        write_picture(case / f"{name}_Dermoscopic_Image" / f"{name}.bmp", picture(rng, kind=index % 3))
        write_picture(case / f"{name}_lesion" / f"{name}_lesion.bmp", disc((40, 48), (20, 24), 9))
        write_picture(case / f"{name}_roi" / f"{name}_R1_Label3.bmp", disc((40, 48), (20, 24), 3))
        lines.append(
            f"|| {name} ||                        ||                  {index % 3} ||         0 |   T ||  3  4 ||"
        )
    legend = ["", "Clinical Diagnosis:", "   0 - Common Nevus;", "   1 - Atypical Nevus;", "   2 - Melanoma."]
    atomic_write_text(folder / "PH2_dataset.txt", "\n".join([*lines, *legend]) + "\n")
