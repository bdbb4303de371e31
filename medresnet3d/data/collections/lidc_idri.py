"""LIDC-IDRI: 1018 chest CT with nodules outlined and rated by up to four readers (Armato et al., 2011)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

from medresnet3d.data.collections.lidc_readings import (
    RATINGS,
    Annotation,
    Part,
    Reading,
    annotation_voxels,
    cluster,
    consensus,
    read_reading,
)
from medresnet3d.data.preparation.cohort import Cohort, DerivedFile, Known
from medresnet3d.data.preparation.mimics import generator
from medresnet3d.data.preparation.series import ScanGrid, Series, find_ct, scan_grid
from medresnet3d.errors import ConfigError
from medresnet3d.io import save_nifti
from medresnet3d.io.atomic import atomic_write_text
from medresnet3d.progress import track

AVERAGES = {"mean": mean, "median": median}
UNDECIDED = 3
"""Malignancy is rated from 1 to 5; an average of exactly this is neither."""


@dataclass(frozen=True)
class Nodule:
    """A physical nodule.

    Args:
        annotations: at most one of each reader.
        voxels: that at least half of them enclose.
    """

    annotations: tuple[Annotation, ...]
    voxels: Part

    def ratings(self, name: str) -> list[int]:
        """One characteristic as each reader rated it."""
        return [annotation.ratings[name] for annotation in self.annotations if name in annotation.ratings]


def collect(cohort: Cohort, *, readers: int = 1, average: str = "mean", max_thickness: float = 0) -> None:
    """List the nodules of at least 3 mm, or the scans with label maps of them or boxes around them.

    Args:
        cohort: to fill.
        readers: how many must have outlined a nodule, 1 to 4.
        average: of the readers' ratings of malignancy: ``mean`` or ``median``.
        max_thickness: leave out scans of thicker slices (mm); 0 keeps all.
    """
    if average not in AVERAGES:
        raise ConfigError(f"lidc_idri: the option average is {average!r}; choose mean or median.")
    if not 1 <= readers <= 4:
        raise ConfigError(f"lidc_idri: the option readers is {readers}; give 1 to 4.")
    readings = _readings(cohort)
    series = find_ct(cohort)
    for uid in readings.keys() - series.keys():
        cohort.drop("reading of a scan that is not there", uid)
    for uid, one in track(series.items(), "reading LIDC-IDRI", total=len(series)):
        if uid not in readings:
            cohort.drop("scan without a reading", one.folder.name)
        elif max_thickness and (one.thickness or 0) > max_thickness:
            cohort.drop(f"scan of slices above {max_thickness:g} mm", one.folder.name)
        else:
            _add_scan(cohort, uid, one, readings[uid], readers, average)


def _readings(cohort: Cohort) -> dict[str, Reading]:
    """The readings of CT by series; where there are two of one series, a correction counts."""
    found: dict[str, Reading] = {}
    paths = cohort.folder.require("readings", "*.xml")
    for path in sorted(paths, key=lambda path: "correction" not in path.name.casefold()):
        reading = read_reading(path)
        if reading is None:
            cohort.drop("XML that is no reading of a CT", path.name)
        elif reading.series in found:
            cohort.drop("second reading of one scan", path.name)
        else:
            found[reading.series] = reading
    return found


def _add_scan(cohort: Cohort, uid: str, series: Series, reading: Reading, readers: int, average: str) -> None:
    if reading.small:
        cohort.drop("mark of a nodule below 3 mm", uid, reading.small)
    if not reading.annotations and cohort.task.kind == "classification":
        return
    grid = scan_grid(cohort, uid, series)
    if grid is None:
        return
    nodules = []
    for nodule in _nodules(cohort, uid, reading, grid):
        if len(nodule.annotations) < readers:
            cohort.drop(f"nodule of fewer than {readers} readers", uid)
        else:
            nodules.append(nodule)
    more: Known = {"patient": series.patient, "series": uid}
    if cohort.task.kind == "classification":
        for nodule in nodules:
            _add_nodule(cohort, series, nodule, grid, average, more)
    else:
        _add_all(cohort, series, [nodule.voxels for nodule in nodules], grid, more)


def _add_all(cohort: Cohort, series: Series, parts: list[Part], grid: ScanGrid, more: Known) -> None:
    """List a whole scan with all its nodules."""
    if cohort.task.kind == "detection":
        boxes = [_box(part, grid) for part in parts]
        cohort.add(series.folder, boxes=boxes, label=[cohort.labels[0]] * len(boxes), **more)
    elif parts:
        mask = DerivedFile(f"masks/{more['series']}.nii.gz", partial(_save_mask, grid, parts))
        cohort.add(series.folder, mask=mask, **more)
    else:
        cohort.drop("scan without a nodule", more["series"])


def _nodules(cohort: Cohort, uid: str, reading: Reading, grid: ScanGrid) -> Iterator[Nodule]:
    placed = [(annotation, annotation_voxels(annotation, grid)) for annotation in reading.annotations]
    there = [(annotation, voxels) for annotation, voxels in placed if voxels is not None]
    if len(there) < len(placed):
        cohort.drop("outline that encloses no voxel of its scan", uid, len(placed) - len(there))
    parts = [voxels for _, voxels in there]
    for indices in cluster(parts, [annotation.reader for annotation, _ in there], grid.spacing):
        chosen = tuple(there[index][0] for index in indices)
        yield Nodule(chosen, consensus([parts[index] for index in indices]))


def _add_nodule(cohort: Cohort, series: Series, nodule: Nodule, grid: ScanGrid, average: str, more: Known) -> None:
    ratings = nodule.ratings("malignancy")
    if not ratings:
        cohort.drop("nodule whose malignancy nobody rated", more["series"])
        return
    malignancy = AVERAGES[average](ratings)
    if malignancy == UNDECIDED:
        cohort.drop(f"malignancy of {UNDECIDED}, neither benign nor malignant", more["series"])
        return
    volume = float(nodule.voxels.mask.sum() * np.prod(grid.spacing))
    x, y, z = grid.to_world(nodule.voxels.centre).round(3).tolist()
    averages = {name: round(mean(values), 3) for name in RATINGS if (values := nodule.ratings(name))}
    cohort.add(
        series.folder,
        label="malignant" if malignancy > UNDECIDED else "benign",
        position=(x, y, z),
        readers=len(nodule.annotations),
        malignancy=ratings,
        ratings=averages,
        diameter_mm=round(2 * float(np.cbrt(3 * volume / (4 * np.pi))), 2),
        **more,
    )


def _box(voxels: Part, grid: ScanGrid) -> list[float]:
    """Lowest and highest corner of what is marked, mm, RAS+."""
    low, high = voxels.corners()
    ends = np.stack([grid.to_world(low - 0.5), grid.to_world(high - 0.5)])
    return [*ends.min(axis=0).round(3).tolist(), *ends.max(axis=0).round(3).tolist()]


def _save_mask(grid: ScanGrid, parts: list[Part], path: Path) -> None:
    mask = np.zeros(grid.shape, np.uint8)
    for part in parts:
        box = tuple(slice(a, a + n) for a, n in zip(part.origin, part.mask.shape, strict=True))
        mask[box] |= part.mask
    save_nifti(mask, grid.affine, path)


MIMIC_PATIENTS = ((1, (5, 4, 4)), (2, (1, 2)), (3, (3, 3, 3, 3)), (4, (2, 1, 1, 2)), (5, (5,)), (6, ()), (7, (4, 5)))
"""Number of each patient of the mimic, with the malignancy that each reader gives its nodule."""


def mimic(folder: Path, seed: int) -> None:
    """Write seven patients: one with two scans, one without nodules; radiographs, small marks and holes beside them."""
    from medresnet3d.data.phantoms.dicom import phantom_uid, write_dicom_series

    rng = generator(seed, "lidc")
    affine = np.array([[-0.8, 0, 0, 10], [0, -0.8, 0, 12], [0, 0, 2.0, -30], [0, 0, 0, 1.0]])
    for number, ratings in MIMIC_PATIENTS:
        patient = f"LIDC-IDRI-{number:04d}"
        for study in ("1", "2") if number == 1 else ("1",):
            base = folder / "LIDC-IDRI" / patient / f"01-01-2000-{study}"
            array = rng.integers(-900, -700, (24, 22, 8)).astype(np.int16)
            array[8:15, 6:13, 2:5] = 40
            scan = base / "3000566-NA"
            write_dicom_series(scan, array, affine, patient_id=patient, study=study, file_names="shuffled")
            xml = _reading_text(phantom_uid(patient, study, 1), partial(phantom_uid, patient, study, 1), ratings)
            atomic_write_text(scan / f"{60 + number:03d}.xml", xml)
            write_dicom_series(
                base / "3000923-NA",
                array[:, :, :1],
                affine,
                patient_id=patient,
                study=study,
                series_number=2,
                header={"Modality": "DX"},
            )
    atomic_write_text(folder / "LIDC-XML-only" / "tcia-lidc-xml" / "157" / "158.xml", _radiograph_text())


def _reading_text(series: str, slice_uid: Any, ratings: tuple[int, ...]) -> str:
    """A reading in the official form: a nodule that every reader outlines, a hole, and a mark of a small one."""
    sessions = []
    for reader, malignancy in enumerate(ratings):
        rated = "".join(f"<{name}>{malignancy if name == 'malignancy' else 3}</{name}>" for name in RATINGS)
        rois = "".join(_roi_text(slice_uid(k), -30 + 2.0 * k, 7, 5, 15 + reader % 2) for k in (2, 3, 4))
        hole = _roi_text(slice_uid(3), -24.0, 10, 8, 11, "FALSE")
        small = f"<roi><imageSOP_UID>{slice_uid(6)}</imageSOP_UID><imageZposition>-18</imageZposition>"
        small += "<inclusion>TRUE</inclusion><edgeMap><xCoord>3</xCoord><yCoord>4</yCoord></edgeMap></roi>"
        sessions.append(
            "<readingSession><annotationVersion>3.12</annotationVersion>"
            "<servicingRadiologistID>anonymous</servicingRadiologistID>"
            f"<unblindedReadNodule><noduleID>{5000 + 17 * reader}</noduleID><characteristics>{rated}</characteristics>"
            f"{rois}{hole}</unblindedReadNodule><unblindedReadNodule><noduleID>IL{reader}</noduleID>{small}"
            "</unblindedReadNodule></readingSession>"
        )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<LidcReadMessage uid="1.3.6.1" xmlns="http://www.nih.gov" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><ResponseHeader><Version>1.8.1</Version>'
        f"<SeriesInstanceUid>{series}</SeriesInstanceUid></ResponseHeader>{''.join(sessions)}</LidcReadMessage>\n"
    )


def _roi_text(image: str, z: float, left: int, top: int, right: int, inclusion: str = "TRUE") -> str:
    """A square outline, of which every pixel is listed."""
    side = range(right - left)
    points = [(left + n, top) for n in side] + [(right, top + n) for n in side]
    points += [(right - n, top + right - left) for n in side] + [(left, top + right - left - n) for n in side]
    edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points)
    return (
        f"<roi><imageZposition>{z}</imageZposition><imageSOP_UID>{image}</imageSOP_UID>"
        f"<inclusion>{inclusion}</inclusion>{edges}</roi>"
    )


def _radiograph_text() -> str:
    return (
        '<IdriReadMessage xmlns="http://www.nih.gov/idri"><ResponseHeader><CTSeriesInstanceUid>1.2.3</CTSeriesInstanceUid>'
        "<CXRSeriesInstanceUid>1.2.4</CXRSeriesInstanceUid></ResponseHeader></IdriReadMessage>\n"
    )
