"""Nodules that four readers outlined and rated, as phantoms in the official layout of LIDC-IDRI.

A scan is a piece of lung around one nodule, not a whole chest, so that a cohort is written in seconds. How malignant a
nodule looks is graded: 1 and 2 are smooth, 4 and 5 have spicules, and each grade is larger than the one before, with
overlaps; each reader may differ by one. Grade 3 is not drawn, but readers' means come near it. Of the other
characteristics each reader gives an opinion of what is drawn: margin, texture and size, not the grade.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import find_contours

from medresnet3d.data.collections.lidc_readings import RATINGS
from medresnet3d.data.phantoms.cohorts import as_phantoms
from medresnet3d.data.phantoms.dicom import phantom_uid, write_dicom_series
from medresnet3d.data.phantoms.nodule_cubes import nodule_cube
from medresnet3d.data.preparation.prepare import prepare
from medresnet3d.io.atomic import atomic_write_text

GRADES = {
    1: ("smooth", 5.0, 8.0),
    2: ("smooth", 7.0, 11.0),
    4: ("spiculated", 9.0, 14.0),
    5: ("spiculated", 12.0, 18.0),
}
"""Margin and range of the diameter in mm of each grade of malignancy."""

READERS = 4
SLICE = 2
"""Distance of slices, and voxels of the drawn nodule that each stands for, in mm."""

DISAGREE = 0.2
"""How often a reader's rating is one above or below the grade."""

OPINION = 0.9
"""Standard deviation of a reader's rating of any other characteristic, before it is rounded."""


@dataclass(frozen=True)
class NoduleLook:
    """What a nodule looks like.

    Args:
        texture: ``solid`` or ``ground_glass``.
        margin: ``smooth`` or ``spiculated``.
        diameter_mm: of the ball of its volume.
    """

    texture: str
    margin: str
    diameter_mm: float

    def rated(self, rng: np.random.Generator) -> dict[str, int]:
        """One reader's opinion of every characteristic but malignancy, on LIDC-IDRI's scales.

        None is calcified (6) or other than soft tissue (1), and all readers see that.
        """
        solid, smooth = self.texture == "solid", self.margin == "smooth"
        typical = {
            "subtlety": 3.0 + (self.diameter_mm - 10) / 6 + (0.5 if solid else -0.5),
            "sphericity": 4.0 if smooth else 3.2,
            "margin": (4.5 if smooth else 3.0) - (0.0 if solid else 1.0),
            "lobulation": 1.8 if smooth else 2.6,
            "spiculation": 1.6 if smooth else 3.4,
            "texture": 4.8 if solid else 1.6,
        }
        opinion = {name: round(value + OPINION * rng.standard_normal()) for name, value in typical.items()}
        return {name: min(max(value, 1), RATINGS[name]) for name, value in opinion.items()} | {
            "internalStructure": 1,
            "calcification": 6,
        }


def nodule_look(grade: int, seed: Sequence[int], atypical: float = 0.0) -> NoduleLook:
    """Draw the look of a nodule of that grade; in the share ``atypical`` with the margin of the other class."""
    rng = np.random.default_rng([*seed, grade])
    margin, low, high = GRADES[grade]
    texture = str(rng.choice(["solid", "ground_glass"], p=[0.75, 0.25]))
    diameter = float(rng.uniform(low, high))
    if rng.random() < atypical:
        margin = next(other for other, _, _ in GRADES.values() if other != margin)
    return NoduleLook(texture, margin, diameter)


def graded_nodule(
    grade: int, seed: Sequence[int], size: int, atypical: float = 0.0
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """A piece of lung (size, size, size) with a nodule of that grade, in HU, 1 mm, axes RAS; and the nodule's mask."""
    look = nodule_look(grade, seed, atypical)
    return nodule_cube([*seed, grade], f"{look.texture}_{look.margin}", size, diameter_mm=look.diameter_mm)


def write_lidc(folder: str | Path, patients: int = 20, seed: int = 0, size: int = 48, atypical: float = 0.0) -> Path:
    """Write one scan with one nodule for each patient: DICOM series, with the XML of four readers beside the slices.

    Args:
        folder: created if absent.
        patients: how many; their grades are 1, 5, 2 and 4 in turn.
        seed: the same seed writes the same files.
        size: edge of a scan in mm; pixels have 1 mm, slices are 2 mm apart.
        atypical: share of nodules with the margin of the other class.

    Returns:
        The folder.
    """
    folder = Path(folder)
    affine = np.diag([-1.0, -1.0, float(SLICE), 1.0])
    affine[:3, 3] = [(size - 1) / 2, (size - 1) / 2, -(size - 1) / 2]
    for number in range(patients):
        patient, grade = f"LIDC-IDRI-{number + 1:04d}", (1, 5, 2, 4)[number % 4]
        cube, mask = graded_nodule(grade, (seed, number), size, atypical)
        scan = folder / "LIDC-IDRI" / patient / "01-01-2000-1" / "3000566-NA"
        array, nodule = (
            cube[::-1, ::-1, ::SLICE],
            mask[::-1, ::-1, ::SLICE],
        )  # columns towards the left, rows towards the back
        write_dicom_series(scan, array, affine, patient_id=patient, study=f"{seed}")
        rng = np.random.default_rng([seed, number, 4])
        steps = rng.choice([-1, 0, 1], size=READERS, p=[DISAGREE / 2, 1 - DISAGREE, DISAGREE / 2])
        look = nodule_look(grade, (seed, number), atypical)
        opinions = np.random.default_rng([seed, number, 5])
        ratings = [{**look.rated(opinions), "malignancy": int(np.clip(grade + step, 1, 5))} for step in steps]
        images = [phantom_uid(patient, f"{seed}", 1, k) for k in range(array.shape[2])]
        text = reading_xml(phantom_uid(patient, f"{seed}", 1), images, affine[2, 3], nodule, ratings)
        atomic_write_text(scan / f"{60 + number:03d}.xml", text)
    return folder


def reading_xml(
    series: str, images: Sequence[str], first_z: float, mask: NDArray[np.uint8], ratings: Sequence[Mapping[str, int]]
) -> str:
    """The XML of readers who outline one nodule alike and rate it each by themselves.

    Args:
        series: UID of the scan.
        images: UIDs of its slices, along k.
        first_z: height of the first slice in mm.
        mask: of the nodule (i, j, k); i are columns, j are rows.
        ratings: of each reader, by characteristic.
    """
    outlines = "".join(
        _roi_xml(images[k], first_z + SLICE * k, outline(mask[:, :, k]))
        for k in range(mask.shape[2])
        if mask[:, :, k].any()
    )
    sessions = []
    for reader, given in enumerate(ratings):
        rated = "".join(f"<{name}>{given[name]}</{name}>" for name in RATINGS)
        sessions.append(
            "<readingSession><annotationVersion>3.12</annotationVersion>"
            "<servicingRadiologistID>anonymous</servicingRadiologistID><unblindedReadNodule>"
            f"<noduleID>{5000 + 17 * reader}</noduleID><characteristics>{rated}</characteristics>{outlines}"
            "</unblindedReadNodule></readingSession>"
        )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<LidcReadMessage uid="1.3.6.1" xmlns="http://www.nih.gov">'
        f"<ResponseHeader><Version>1.8.1</Version><SeriesInstanceUid>{series}</SeriesInstanceUid></ResponseHeader>"
        f"{''.join(sessions)}</LidcReadMessage>\n"
    )


def outline(plane: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The first pixels outside of the largest part of a mask (i, j), in order, (n, 2): how LIDC-IDRI draws outlines."""
    parts, _ = ndimage.label(plane)
    largest = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    grown = np.pad(ndimage.binary_dilation(ndimage.binary_fill_holes(largest), np.ones((3, 3))), 1)
    # just inside the grown mask, so that rounding gives the centres of its outermost pixels
    line = max(find_contours(grown.astype(float), 0.99), key=len)
    points = np.rint(line).astype(np.int64) - 1
    return points[np.any(np.diff(points, axis=0, append=points[:1]) != 0, axis=1)]


def _roi_xml(image: str, z: float, points: NDArray[np.int64]) -> str:
    edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points.tolist())
    return (
        f"<roi><imageZposition>{z}</imageZposition><imageSOP_UID>{image}</imageSOP_UID>"
        f"<inclusion>TRUE</inclusion>{edges}</roi>"
    )


def write_nodule_cohort(
    folder: str | Path, patients: int = 20, seed: int = 0, size: int = 48, atypical: float = 0.0
) -> Path:
    """Write phantoms in LIDC-IDRI's layout and prepare them with its adapter, for benign against malignant.

    Args:
        folder: gets the layout and ``manifest.json``.
        patients: how many; a fifth is held out for validation, and a fifth for the test.
        seed: the same seed writes the same files.
        size: edge of a scan in mm; pixels have 1 mm, slices are 2 mm apart.
        atypical: share of nodules with the margin of the other class.

    Returns:
        Path of the manifest, with training, validation and test lists, and the readers' ratings with each nodule.
    """
    folder = Path(folder)
    root = write_lidc(folder / "lidc_idri", patients, seed, size, atypical)
    return as_phantoms(prepare("lidc_idri", root, folder / "manifest.json", task="malignancy", seed=seed).path)
