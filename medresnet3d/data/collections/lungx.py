"""SPIE-AAPM-NCI LUNGx: 70 chest CT with 83 nodules, benign or malignant (Armato et al., J Med Imaging 2016)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from medresnet3d.data.preparation.cohort import IMAGE_MISSING, Cohort
from medresnet3d.data.preparation.mimics import generator, write_table
from medresnet3d.data.preparation.series import ScanGrid, Series, find_ct, scan_grid
from medresnet3d.data.preparation.tables import Row, find_optional_table, level, read_table
from medresnet3d.errors import DataError

COLUMNS = {
    "scan": "Scan Number",
    "number": "Nodule Number",
    "centre": ("Nodule Center x,y Position*", "Nodule Center x,y Position"),
    "image": "Nodule Center Image",
    "diagnosis": ("Final Diagnosis", "Diagnosis"),
}
TABLES = {"training": "CalibrationSet_NoduleData*", "test": "TestSet_NoduleData*"}
MANY = 10**6


def collect(cohort: Cohort) -> None:
    """List the nodules of the calibration set (training) and of the test set.

    Args:
        cohort: to fill.
    """
    tables = {section: find_optional_table(cohort.folder, name) for section, name in TABLES.items()}
    if not any(tables.values()):
        raise DataError(
            f"{cohort.folder.root}: the tables CalibrationSet_NoduleData.xlsx and TestSet_NoduleData_PublicRelease_"
            f"wTruth.xlsx are missing; it holds {cohort.folder.describe()}. Put them beside the scans."
        )
    scans: dict[str, tuple[str, Series]] = {}
    for uid, one in find_ct(cohort).items():
        if scans.setdefault(one.patient.casefold(), (uid, one))[0] != uid:
            cohort.drop("further series of one person", one.folder.name)
    grids: dict[str, ScanGrid | None] = {}
    for section, path in tables.items():
        for row in read_table(path, COLUMNS, optional=("number",)) if path else []:
            key = row["scan"].casefold()
            if level(row["image"], MANY) is None:
                cohort.drop("row that is no nodule", row["scan"][:40])
            elif key not in scans:
                cohort.drop(IMAGE_MISSING, row["scan"])
            else:
                uid, series = scans[key]
                if key not in grids:
                    grids[key] = scan_grid(cohort, uid, series)
                _add(cohort, section, row, series, grids[key])


def _add(cohort: Cohort, section: str, row: Row, series: Series, grid: ScanGrid | None) -> None:
    centre = _centre(row["centre"])
    if grid is None or centre is None or not row["diagnosis"]:
        cohort.drop("nodule without a usable scan, place or diagnosis", row["scan"])
        return
    first = grid.first_voxel(grid.instances.get(level(row["image"], MANY) or 0, ""))
    if first is None:
        cohort.drop("nodule in an image that is not there", f"{row['scan']} image {row['image']}")
        return
    x, y, z = grid.to_world(first + np.array([*centre, 0])).round(3).tolist()
    cohort.add(
        series.folder,
        section=section,
        patient=series.patient,
        label="benign" if "benign" in row["diagnosis"].casefold() else "malignant",
        position=(x, y, z),
        nodule=row["number"],
        diagnosis=row["diagnosis"],
    )


def _centre(text: str) -> tuple[int, int] | None:
    """Column and row: ``"120, 325"``, or ``120325`` where a spreadsheet took the comma for one of thousands."""
    numbers = [int(part) for part in re.findall(r"\d+", text.removesuffix(".0"))]
    if len(numbers) == 1 and numbers[0] >= 1000:
        return numbers[0] // 1000, numbers[0] % 1000
    return (numbers[0], numbers[1]) if len(numbers) == 2 else None


def mimic(folder: Path, seed: int) -> None:
    """Write four scans for calibration and four for testing, with joined coordinates, other case, and footnotes."""
    from medresnet3d.data.phantoms.dicom import write_dicom_series

    rng = generator(seed, "lungx")
    affine = np.array([[-0.7, 0, 0, 10], [0, -0.7, 0, 12], [0, 0, 2.5, -30], [0, 0, 0, 1.0]])
    names = ["CT-Training-BE001", "CT-Training-BE002", "CT-Training-LC001", "CT-Training-LC002"]
    names += [f"LUNGx-CT{number:03d}" for number in range(1, 5)]
    for index, name in enumerate(names):
        array = rng.integers(-900, -700, (24, 22, 6)).astype(np.int16)
        array[9:14, 8:13, 2:5] = 40
        target = folder / "SPIE-AAPM Lung CT Challenge" / name / "05-22-2007-6667-CT INFUSED CHEST-18038"
        write_dicom_series(target / f"4-HIGH RES-{index}", array, affine, patient_id=name, file_names="shuffled")
    header = ["Scan Number", "Nodule Center x,y Position*", "Nodule Center Image"]
    calibration: list[list[object]] = [[*header, "Diagnosis"]]
    for index, name in enumerate(names[:4]):
        centre = 11010 if index % 2 else "11, 010"
        calibration.append([name.replace("LC", "lc"), centre, 4, "benign" if index < 2 else "malignant"])
    calibration += [["", "", "", ""], ["* The upper left pixel is 0,0", "", "", ""]]
    test: list[list[object]] = [[header[0], "Nodule Number", *header[1:], "Final Diagnosis"]]
    for index, name in enumerate(names[4:]):
        word = "Primary lung cancer" if index % 2 else "Benign nodule"
        test += [[name, 1, "11, 10", 4, word], [name, 2, "12, 11", 3 + 90 * (index == 3), word]]
    write_table(folder / "CalibrationSet_NoduleData.csv", calibration)
    write_table(folder / "TestSet_NoduleData_PublicRelease_wTruth.csv", test)
