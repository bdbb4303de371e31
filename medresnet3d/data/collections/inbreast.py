"""INbreast: 410 digital mammograms of 115 women with outlined findings (Moreira et al., Academic Radiology 2012)."""

from __future__ import annotations

import plistlib
import re
from functools import partial
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

import numpy as np
from numpy.typing import NDArray

from medresnet3d.data.preparation.cohort import Cohort, Known
from medresnet3d.data.preparation.folders import Pictures
from medresnet3d.data.preparation.mimics import disc, generator, write_table
from medresnet3d.data.preparation.radiographs import radiograph_shape, write_mammogram
from medresnet3d.data.preparation.tables import Row, find_table, level, read_table
from medresnet3d.errors import DataError
from medresnet3d.io.atomic import atomic_path

COLUMNS = {"file": "File Name", "side": "Laterality", "view": "View", "density": "ACR", "birads": "Bi-Rads"}
NAME = re.compile(r"(\d+)_([0-9a-f]+)_MG_([LR])_(\w+)_ANON", re.IGNORECASE)
FINDINGS = {
    "asymmetry": "asymmetry",
    "assymetry": "asymmetry",
    "distortion": "distortion",
    "spiculated region": "spiculated region",
    "espiculated region": "spiculated region",
    "mass": "mass",
    "cluster": "cluster",
    "calcifications": "calcification",
    "calcification": "calcification",
    "unnamed": "calcification",
    "point 1": "calcification",
    "point 3": "calcification",
}
"""Spellings in the release; the order is that of drawing, so that small findings stay visible on large ones."""

MALIGNANCY = {"1": "benign", "2": "benign", "4": "malignant", "5": "malignant", "6": "malignant"}
"""First sign of BI-RADS (4a, 4b and 4c occur) to class; 3 is dropped."""

DENSITIES = {grade: grade for grade in "1234"}


def collect(cohort: Cohort) -> None:
    """List the mammograms of the table; the hexadecimal number in a file name is the woman.

    Args:
        cohort: to fill.
    """
    rows = read_table(find_table(cohort.folder, "INbreast"), COLUMNS)
    files = [path for path in cohort.folder.require("mammograms", "AllDICOMs/*.dcm") if NAME.match(path.stem)]
    images = Pictures(files, key=lambda path: path.stem.partition("_")[0])
    outlines = Pictures(cohort.folder.files("AllXML/*.xml"))
    for row in rows:
        if not row["file"].isdecimal():
            cohort.drop("row that names no file", row["file"])
            continue
        image = cohort.find(images, row["file"])
        if image:
            _add(cohort, image, row, outlines.get(row["file"]))
    cohort.drop_unused(images, "mammogram without a row in the table")


def _add(cohort: Cohort, image: Path, row: Row, outline: Path | None) -> None:
    match = NAME.match(image.stem)
    woman = match.group(2).lower() if match else row["file"]
    more: Known = {
        "side": row["side"],
        "view": row["view"],
        "birads": row["birads"],
        "density": level(row["density"], 4),
    }
    if cohort.task.kind == "segmentation":
        rois = _rois(outline) if outline else []
        for roi in rois:
            if _finding(roi) is None:
                cohort.drop(f"outline named {roi.get('Name')!r}", row["file"])
        make = partial(_draw, image, rois, cohort.labels)
        cohort.add(image, patient=woman, mask=cohort.label_map(row["file"], make, like=image), **more)
        return
    what, value = ("ACR", row["density"]) if cohort.task.name == "density" else ("BI-RADS", row["birads"])
    label = DENSITIES.get(value) if cohort.task.name == "density" else MALIGNANCY.get(value[:1])
    if label is None:
        cohort.drop(f"{what} {value}" if value else f"no {what}", row["file"])
    else:
        cohort.add(image, patient=woman, label=label, **more)


def _finding(roi: dict[str, Any]) -> str | None:
    return FINDINGS.get(str(roi.get("Name", "")).strip().casefold())


def _draw(image: Path, rois: list[dict[str, Any]], labels: tuple[str, ...]) -> NDArray[np.uint8]:
    """The label map (rows, columns) of the outlines of one mammogram."""
    from skimage.draw import polygon

    result = np.zeros(radiograph_shape(image), np.uint8)
    for name in dict.fromkeys(FINDINGS.values()):
        for points in (_points(roi) for roi in rois if _finding(roi) == name):
            rows, columns = points[:, 1], points[:, 0]
            if len(points) > 2:
                rows, columns = polygon(rows, columns, result.shape)
            rows, columns = np.rint(rows).astype(int), np.rint(columns).astype(int)
            within = (rows < result.shape[0]) & (columns < result.shape[1])
            result[rows[within], columns[within]] = labels.index(name)
    return result


def _rois(path: Path) -> list[dict[str, Any]]:
    """The outlines in one of the release's property lists."""
    try:
        images = plistlib.loads(path.read_bytes())["Images"]
    except (plistlib.InvalidFileException, ExpatError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: is no property list of outlines ({error}); unpack it again.") from error
    return [roi for one in images for roi in one.get("ROIs", [])]


def _points(roi: dict[str, Any]) -> NDArray[np.float64]:
    """The points (n, 2) of an outline, column before row, from texts such as ``"(1021.5, 2050.1)"``."""
    numbers = [re.findall(r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?", text) for text in roi.get("Point_px", [])]
    points = np.array([[float(x), float(y)] for x, y, *_ in numbers], np.float64).reshape(-1, 2)
    return np.clip(points, 0, None)


def mimic(folder: Path, seed: int) -> None:
    """Write mammograms of eight women, the table with blank densities, and outlines in variants of spelling."""
    rng = generator(seed, "inbreast")
    base = folder / "INbreast Release 1.0"
    header = ["Patient ID", "Patient age", "Laterality", "View", "Acquisition date", "File Name", "ACR", "Bi-Rads"]
    rows: list[list[object]] = [[*header]]
    birads = ("1", "2", "3", "4a", "4c", "5", "6", "2")
    for index in range(16):
        name, woman, side = 20586908 + 7 * index, f"{index // 2:016x}", "LR"[index % 2]
        film = (200 + 2000 * (disc((48, 40), (24, 10), 18) > 0) + rng.integers(0, 99, (48, 40))).astype(np.uint16)
        write_mammogram(base / "AllDICOMs" / f"{name}_{woman}_MG_{side}_CC_ANON.dcm", film)
        density = "     " if index == 3 else str(1 + index % 4)
        rows.append(["removed", "removed", side, "CC", "201001", name, density, birads[index // 2]])
        if index % 2 == 0:
            kinds = (
                "Mass",
                "Espiculated Region",
                "Assymetry",
                "Distortion",
                "Cluster",
                "Calcifications",
                "Mass",
                "Cluster",
            )
            _write_outline(base / "AllXML" / f"{name}.xml", (kinds[index // 2], "Calcification"))
    write_table(base / "INbreast.csv", rows, separator=";")


def _write_outline(path: Path, names: tuple[str, str]) -> None:
    square = [f"({x:.6f}, {y:.6f})" for x, y in ((8, 12), (20, 12), (20, 30), (8, 30))]
    rois = [{"Name": names[0], "Point_px": square}, {"Name": names[1], "Point_px": ["(30.0, 40.0)"]}]
    content = {
        "Images": [
            {
                "ImageIndex": 0,
                "NumberOfROIs": 2,
                "ROIs": [{**roi, "NumberOfPoints": len(roi["Point_px"])} for roi in rois],
            }
        ]
    }
    with atomic_path(path) as temporary:
        temporary.write_bytes(plistlib.dumps(content))
