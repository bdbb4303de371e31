"""DDSM: 2620 cases of four digitised mammograms with chain-coded outlines (Heath et al., IWDM 2000)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medresnet3d.data.preparation.cohort import IMAGE_MISSING, Cohort, Known
from medresnet3d.data.preparation.folders import PICTURES
from medresnet3d.data.preparation.masks import picture_shape
from medresnet3d.data.preparation.mimics import generator, picture, write_picture
from medresnet3d.data.preparation.tables import level, number
from medresnet3d.errors import DataError
from medresnet3d.io.atomic import atomic_write_text

VIEWS = ("LEFT_CC", "LEFT_MLO", "RIGHT_CC", "RIGHT_MLO")
PATHOLOGY = {"MALIGNANT": "malignant", "BENIGN": "benign", "BENIGN_WITHOUT_CALLBACK": "benign"}
STEPS = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
"""Row and column of each direction of the chain code: 0 is up, then clockwise."""


@dataclass(frozen=True)
class Abnormality:
    """One finding of an overlay.

    Args:
        kind: words of LESION_TYPE, e.g. ``"MASS SHAPE OVAL MARGINS CIRCUMSCRIBED"``.
        pathology: as in the file.
        outline: rows and columns (n, 2) of the boundary, in pixels of the scan.
    """

    kind: str
    pathology: str
    outline: NDArray[np.int64]


def collect(cohort: Cohort) -> None:
    """List the films of the cases; their own LJPEG has to be converted to PNG beside it first.

    Args:
        cohort: to fill.
    """
    for case in cohort.folder.require("case files *.ics", "*.ics"):
        text = case.read_text(encoding="latin-1")
        density = re.search(r"^DENSITY\s+(\d)", text, re.MULTILINE)
        known: Known = {"density": level(density.group(1), 4) if density else None, "patient": _case_name(case)}
        age = re.search(r"^PATIENT_AGE\s+(\d+)", text, re.MULTILINE)
        known["age"] = number(age.group(1)) if age else None
        for view in VIEWS:
            line = re.search(rf"^{view}\s+LINES\s+(\d+)\s+PIXELS_PER_LINE\s+(\d+).*", text, re.MULTILINE)
            if line is None:
                continue
            image = _film(case.parent, view)
            if image is None:
                cohort.drop(_why_missing(case.parent, view), f"{_case_name(case)} {view}")
            else:
                scan = (int(line.group(1)), int(line.group(2)))
                overlay = next(iter(sorted(case.parent.glob(f"*.{view}.OVERLAY"))), None)
                found = read_overlay(overlay) if overlay else []
                _add(cohort, image, found, scan, {**known, "view": view, "volume": case.parent.parent.name})


def _case_name(case: Path) -> str:
    """``case1234`` for ``A-1234-1.ics``; letters differ between volumes, numbers do not repeat."""
    match = re.match(r"[A-Z]-(\d+)-\d", case.stem, re.IGNORECASE)
    return f"case{match.group(1)}" if match else case.parent.name


def _film(folder: Path, view: str) -> Path | None:
    found = [
        path
        for path in sorted(folder.iterdir())
        if f".{view}." in path.name.upper() and path.suffix.lower() in PICTURES
    ]
    return next(iter(found), None)


def _why_missing(folder: Path, view: str) -> str:
    has_original = any(f".{view}.LJPEG" in path.name.upper() for path in folder.iterdir())
    return "film in LJPEG only, convert it to PNG" if has_original else IMAGE_MISSING


def _add(cohort: Cohort, image: Path, found: list[Abnormality], scan: tuple[int, int], known: Known) -> None:
    name = f"{known['patient']}_{known['view']}"
    normal = any(part.lower().startswith("normal") for part in image.parts[-5:-1])
    if cohort.task.kind == "segmentation":
        if found or normal:
            make = partial(_draw, image, found, scan)
            cohort.add(image, mask=cohort.label_map(name, make), **known)
        else:
            cohort.drop("no abnormality marked in a case that has some", name)
        return
    if cohort.task.name == "density":
        label = {grade: str(grade) for grade in range(1, 5)}.get(known["density"] or 0)
        reason = "no density"
    else:
        classes = {PATHOLOGY.get(one.pathology) for one in found}
        label = next(
            (one for one in ("malignant", "benign") if one in classes), "normal" if normal and not found else None
        )
        reason = "pathology unproven" if found else "no abnormality marked in a case that has some"
    if label is None:
        cohort.drop(reason, name)
    else:
        cohort.add(image, label=label, **known)


def read_overlay(path: Path) -> list[Abnormality]:
    """Read the findings of an ``.OVERLAY`` file.

    Raises:
        DataError: if an outline is not followed by its chain code.
    """
    text = path.read_text(encoding="latin-1")
    abnormalities = []
    for part in re.split(r"^ABNORMALITY\s+\d+", text, flags=re.MULTILINE)[1:]:
        kinds = re.findall(r"LESION_TYPE\s+(.+)", part)
        pathology = re.search(r"PATHOLOGY\s+(\w+)", part)
        boundary = re.search(r"BOUNDARY\s+((?:\d+\s+)*\d*)\s*#?", part)
        numbers = boundary.group(1).split() if boundary else []
        if len(numbers) < 3:
            raise DataError(f"{path}: an abnormality has no boundary in chain code; copy the file again.")
        outline = _follow(int(numbers[1]), int(numbers[0]), numbers[2:])
        abnormalities.append(Abnormality("; ".join(kinds), pathology.group(1) if pathology else "", outline))
    return abnormalities


def _follow(row: int, column: int, codes: list[str]) -> NDArray[np.int64]:
    steps = np.array([(row, column), *(STEPS[int(code)] for code in codes)], np.int64)
    return steps.cumsum(axis=0)


def _draw(image: Path, found: list[Abnormality], scan: tuple[int, int]) -> NDArray[np.uint8]:
    """The label map (rows, columns) of the outlines, on the grid of the converted film, which may be smaller."""
    from skimage.draw import polygon

    result = np.zeros(picture_shape(image), np.uint8)
    scale = np.array(result.shape) / scan
    for one in found:
        points = (one.outline + 0.5) * scale - 0.5
        result[polygon(points[:, 0], points[:, 1], result.shape)] = 1
    return result


OVERLAY = """TOTAL_ABNORMALITIES 1
ABNORMALITY 1
LESION_TYPE MASS SHAPE OVAL MARGINS CIRCUMSCRIBED
ASSESSMENT 4
SUBTLETY 3
PATHOLOGY {pathology}
TOTAL_OUTLINES 1
BOUNDARY
20 30 {chain} #
"""


def mimic(folder: Path, seed: int) -> None:
    """Write cases of each kind of volume with half-size PNG of their films and overlays in chain code."""
    rng = generator(seed, "ddsm")
    chain = " ".join(["2"] * 20 + ["4"] * 24 + ["6"] * 20 + ["0"] * 24)
    pathologies = ("", "MALIGNANT", "BENIGN", "BENIGN_WITHOUT_CALLBACK")
    for kind, volume in enumerate(("normal", "cancer", "benign", "benign_without_callback")):
        for case in range(1000 + 10 * kind, 1003 + 10 * kind):
            place = folder / "cases" / f"{volume}s" / f"{volume}_01" / f"case{case}"
            lines = ["ics_version 1.0", f"PATIENT_AGE {case % 90}", f"DENSITY {1 + case % 4}"]
            for view in VIEWS:
                marked = kind > 0 and view.startswith("LEFT")
                size = "LINES 80 PIXELS_PER_LINE 60 BITS_PER_PIXEL 12 RESOLUTION 50"
                lines.append(f"{view} {size} {'OVERLAY' if marked else 'NON_OVERLAY'}")
                suffix = "png" if case % 2 else "LJPEG.png"
                write_picture(place / f"A_{case}_1.{view}.{suffix}", picture(rng, (40, 30), colour=False))
                if marked:
                    text = OVERLAY.format(pathology=pathologies[kind], chain=chain)
                    atomic_write_text(place / f"A_{case}_1.{view}.OVERLAY", text)
            atomic_write_text(place / f"A-{case}-1.ics", "\n".join(lines) + "\n")
