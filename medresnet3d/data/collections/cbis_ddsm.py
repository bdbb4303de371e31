"""CBIS-DDSM: masses and calcifications in digitised mammograms with outlines (Lee et al., Scientific Data 2017)."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medresnet3d.data.preparation.cohort import IMAGE_MISSING, MASK_MISSING, Cohort, Known
from medresnet3d.data.preparation.mimics import disc, generator, write_table
from medresnet3d.data.preparation.radiographs import (
    mask_box,
    radiograph_pixels,
    radiograph_shape,
    write_mammogram,
)
from medresnet3d.data.preparation.tables import Row, find_table, level, read_table
from medresnet3d.errors import DataError

COLUMNS = {
    "patient": "patient_id",
    "density": ("breast_density", "breast density"),
    "side": "left or right breast",
    "view": "image view",
    "type": "abnormality type",
    "assessment": "assessment",
    "pathology": "pathology",
    "image": "image file path",
    "crop": "cropped image file path",
    "mask": "ROI mask file path",
}
PARTS = {"train": "training", "test": "test"}
PATHOLOGY = {"MALIGNANT": "malignant", "BENIGN": "benign", "BENIGN_WITHOUT_CALLBACK": "benign"}
SUFFIXES = (".dcm", ".jpg", ".png")


@dataclass
class Film:
    """One mammogram with its findings.

    Args:
        section: of the official split.
        rows: of the tables, one for each finding.
    """

    section: str
    rows: list[Row] = field(default_factory=list)


class Files:
    """The files of the set by the names of the folders that they lie in: series, or patient with side and view.

    Args:
        cohort: whose folder is looked through.
    """

    def __init__(self, cohort: Cohort) -> None:
        self._below: defaultdict[str, list[Path]] = defaultdict(list)
        for path in cohort.folder.require("mammograms", *(f"*{suffix}" for suffix in SUFFIXES)):
            for folder in path.parts[-4:-1]:
                self._below[folder.casefold()].append(path)

    def of(self, listed: str) -> list[Path]:
        """The files that a path of the tables may mean: the real names changed when the archive was packed anew."""
        parts = [part.strip().casefold() for part in re.split(r"[/\\]", listed.strip('"')) if part.strip()]
        for folder in (parts[-2:-1], parts[:1]):
            if folder and folder[0] in self._below:
                return self._below[folder[0]]
        return []


def collect(cohort: Cohort, *, finding: str = "both") -> None:
    """List mammograms or crops of findings; P_00001 is the patient, whichever tables name it.

    Args:
        cohort: to fill.
        finding: ``mass``, ``calc`` or ``both``.
    """
    kinds = [kind for kind in ("mass", "calc") if finding in (kind, "both")]
    films: dict[tuple[str, str, str], Film] = {}
    for kind in kinds:
        for part, section in PARTS.items():
            table = find_table(cohort.folder, f"{kind}_case_description_{part}_set")
            for row in read_table(table, COLUMNS):
                film = films.setdefault((row["patient"], row["side"], row["view"]), Film(section))
                film.section = "test" if section == "test" else film.section
                film.rows.append(row)
    files = Files(cohort)
    for (patient, side, view), film in films.items():
        known: Known = {"side": side, "view": view, "density": level(film.rows[0]["density"], 4)}
        if cohort.task.name in ("finding", "lesion"):
            add = _add_crops if cohort.task.name == "finding" else _add_lesions
            add(cohort, files, film, {**known, "patient": patient})
            continue
        image = next(iter(files.of(film.rows[0]["image"])), None)
        if image is None:
            cohort.drop(IMAGE_MISSING, f"{patient} {side} {view}")
        else:
            _add_film(cohort, files, film, image, {**known, "patient": patient})


def _add_film(cohort: Cohort, files: Files, film: Film, image: Path, known: Known) -> None:
    """List a whole mammogram; the malignant finding decides."""
    name = f"{known['patient']}_{known['side']}_{known['view']}"
    if cohort.task.kind == "segmentation":
        masks = [mask for row in film.rows if (mask := _mask_and_crop(files, row, radiograph_shape(image))[0])]
        if len(masks) < len(film.rows):
            cohort.drop(MASK_MISSING, name, len(film.rows) - len(masks))
        if masks:
            drawn = cohort.label_map(
                name, partial(_union, image, masks), like=image if image.suffix == ".dcm" else None
            )
            cohort.add(image, section=film.section, mask=drawn, **known)
        return
    if cohort.task.name == "density":
        label = {grade: str(grade) for grade in range(1, 5)}.get(known["density"] or 0)
    else:
        found = {PATHOLOGY.get(row["pathology"].upper()) for row in film.rows}
        label = next((one for one in ("malignant", "benign") if one in found), None)
    if label is None:
        cohort.drop(f"no {cohort.task.name}", name)
    else:
        cohort.add(image, section=film.section, label=label, **known)


def _add_crops(cohort: Cohort, files: Files, film: Film, known: Known) -> None:
    """List the cropped picture of each finding."""
    for row in film.rows:
        label = cohort.pick(PATHOLOGY, row["pathology"], row["patient"])
        full = next(iter(files.of(row["image"])), None)
        crop = _mask_and_crop(files, row, radiograph_shape(full) if full else None)[1]
        if crop is None:
            cohort.drop("cropped picture missing", f"{row['patient']} {row['side']} {row['view']}")
        elif label:
            cohort.add(
                crop, section=film.section, label=label, finding=row["type"], assessment=row["assessment"], **known
            )


def _add_lesions(cohort: Cohort, files: Files, film: Film, known: Known) -> None:
    """List the mammogram once for each finding, with the box around the finding's outline."""
    image = next(iter(files.of(film.rows[0]["image"])), None)
    name = f"{known['patient']} {known['side']} {known['view']}"
    if image is None:
        cohort.drop(IMAGE_MISSING, name, len(film.rows))
        return
    for row in film.rows:
        label = cohort.pick(PATHOLOGY, row["pathology"], row["patient"])
        mask = _mask_and_crop(files, row, radiograph_shape(image))[0]
        if mask is None or radiograph_shape(mask) != radiograph_shape(image):
            cohort.drop(MASK_MISSING if mask is None else "mask of another size than its mammogram", name)
        elif label:
            roi = mask_box(radiograph_pixels(mask))
            more: Known = {"finding": row["type"], "assessment": row["assessment"], "roi": roi}
            cohort.add(image, section=film.section, label=label, **more, **known)


def _mask_and_crop(files: Files, row: Row, full: tuple[int, int] | None) -> tuple[Path | None, Path | None]:
    """Tell mask and crop of a finding apart, since the archive swapped many: a mask has the size of its mammogram.

    Where sizes do not tell, the pixels do.
    """
    paths = list(dict.fromkeys([*files.of(row["crop"]), *files.of(row["mask"])]))
    shapes = {path: radiograph_shape(path) for path in paths}
    masks = [path for path in paths if shapes[path] == full]
    if len(masks) != 1 or len(paths) == 1:
        masks = [path for path in paths if _is_mask(path)]
    crops = [path for path in paths if path not in masks]
    return next(iter(masks), None), next(iter(crops), None)


def _is_mask(path: Path) -> bool:
    """Whether a picture is black and white, apart from what compression does to its edges."""
    pixels = radiograph_pixels(path)
    top = max(float(pixels.max()), 1.0)
    return bool(((pixels < 0.05 * top) | (pixels > 0.95 * top)).mean() > 0.99)


def _union(image: Path, masks: list[Path]) -> NDArray[np.uint8]:
    """The label map (rows, columns) of all masks of one mammogram."""
    result = np.zeros(radiograph_shape(image), np.uint8)
    for mask in masks:
        pixels = radiograph_pixels(mask)
        if pixels.shape != result.shape:
            raise DataError(f"{mask}: the mask has {pixels.shape} pixels, but the mammogram {result.shape}.")
        result |= (pixels > pixels.max() / 2).astype(np.uint8)
    return result


def mimic(folder: Path, seed: int) -> None:
    """Write the four tables and the files under their new names, with crop and mask swapped in every other folder."""
    rng = generator(seed, "cbis_ddsm")
    texts = ("BENIGN", "MALIGNANT", "BENIGN_WITHOUT_CALLBACK")
    for kind, word, first in (("mass", "Mass", 1), ("calc", "Calc", 5)):
        for part, numbers in (("train", range(6)), ("test", range(20, 24))):
            density = "breast_density" if kind == "mass" else "breast density"
            head = ["patient_id", density, "left or right breast", "image view", "abnormality id", "abnormality type"]
            head += ["assessment", "pathology", "image file path", "cropped image file path", "ROI mask file path"]
            rows: list[list[object]] = [[*head]]
            for number in numbers:
                patient = f"P_{first + number:05d}"
                name = f"{word}-{'Training' if part == 'train' else 'Test'}_{patient}_LEFT_CC"
                _write_finding(folder / "CBIS-DDSM", name, swapped=number % 2 == 1, rng=rng)
                path = f"{name}_1/1.3.6.1.4.1.9590/1.3.6.1.4.1.9590.{number}"
                facts = [patient, 1 + number % 4, "LEFT", "CC", 1, "mass" if kind == "mass" else "calcification", 4]
                files = [f"{name}/1.3.6.1/1.3.6/000000.dcm", f"{path}/000000.dcm", f"{path}/000001.dcm\n"]
                rows.append([*facts, texts[number % 3], *files])
            write_table(folder / f"{kind}_case_description_{part}_set.csv", rows)


def _write_finding(base: Path, name: str, swapped: bool, rng: np.random.Generator) -> None:
    film = (500 + 30000 * (disc((48, 40), (24, 10), 18) > 0) + rng.integers(0, 999, (48, 40))).astype(np.uint16)
    mask = disc((48, 40), (24, 12), 5).astype(np.uint16)
    write_mammogram(base / name / "07-20-2016-DDSM-1" / "1.000000-full mammogram images-1" / "1-1.dcm", film)
    roi = base / f"{name}_1" / "07-20-2016-DDSM-2" / "1.000000-ROI mask images-2"
    for number, pixels in enumerate((mask, film[18:30, 6:18]) if swapped else (film[18:30, 6:18], mask), 1):
        write_mammogram(roi / f"1-{number}.dcm", pixels)
