"""A cohort of phantom chests in the official on-disk layout of LUNA16."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813

from medresnet3d.data.phantoms.canvas import Shape3, Spacing3
from medresnet3d.data.phantoms.cohorts import as_phantoms
from medresnet3d.data.phantoms.ct import ChestPhantom, Point, chest_phantom, lps
from medresnet3d.data.phantoms.dicom import phantom_uid
from medresnet3d.data.preparation.prepare import prepare
from medresnet3d.io.atomic import atomic_path, atomic_write_text
from medresnet3d.progress import track

SUBSETS = 10
FLIPPED_EVERY = 4
"""Every so many scans one is stored with flipped x and y axes, as some of LUNA16 are."""

THICK_EVERY = 3
"""Every so many scans one has thicker slices (LUNA16 holds up to 2.5 mm)."""

COORDINATES = ("coordX", "coordY", "coordZ")
ANNOTATION_COLUMNS = ("seriesuid", *COORDINATES, "diameter_mm")
CANDIDATE_COLUMNS = ("seriesuid", *COORDINATES, "class")
SUBMISSION_COLUMNS = ("seriesuid", *COORDINATES, "probability")
LUNG_FOLDER = "seg-lungs-LUNA16"


@dataclass(frozen=True)
class LunaScan:
    """One scan of a written cohort.

    Args:
        uid: series UID, the file's name.
        subset: number of its subset.
        phantom: voxels and truth.
    """

    uid: str
    subset: int
    phantom: ChestPhantom


def write_luna16(
    folder: str | Path,
    patients: int = 24,
    seed: int = 0,
    *,
    shape: Shape3 = (160, 128, 60),
    spacing: Spacing3 = (1.25, 1.25, 2.0),
    nodules: int = 6,
    distractors: int = 8,
    diameters_mm: tuple[float, float] = (7.0, 20.0),
) -> Path:
    """Write phantom chests as LUNA16 lays out its scans.

    ``subset0`` to ``subset9`` hold ``<seriesuid>.mhd`` and ``.raw``; beside them lie ``annotations.csv``,
    ``candidates.csv``, ``candidates_V2.csv``, ``annotations_excluded.csv``, ``sampleSubmission.csv`` and
    ``seg-lungs-LUNA16``. World coordinates are millimetres in LPS+, as in LUNA16. Offsets differ from scan to scan,
    every fourth scan is stored with flipped x and y, every third has slices of 2.5 mm, and the number of nodules
    varies (some scans have none).

    Args:
        folder: created if absent.
        patients: number of scans; each is a patient of its own.
        seed: the same seed writes the same cohort.
        shape: voxels across, from back to front, and up.
        spacing: voxel size in mm along the same directions.
        nodules: mean number of nodules a scan.
        distractors: candidates a scan that are no nodules, at most.
        diameters_mm: smallest and largest nodule.

    Returns:
        The folder.
    """
    folder = Path(folder)
    for subset in range(SUBSETS):
        (folder / f"subset{subset}").mkdir(parents=True, exist_ok=True)
    tables: dict[str, list[dict[str, Any]]] = {"annotations": [], "candidates": [], "excluded": []}
    for patient in track(range(patients), "writing phantom CT", total=patients):
        scan = luna_scan(
            seed,
            patient,
            shape=shape,
            spacing=spacing,
            nodules=nodules,
            distractors=distractors,
            diameters_mm=diameters_mm,
        )
        write_mhd(folder / f"subset{scan.subset}" / f"{scan.uid}.mhd", scan.phantom.array, scan.phantom.affine)
        lungs = folder / LUNG_FOLDER / f"{scan.uid}.mhd"
        write_mhd(lungs, scan.phantom.lung_mask, scan.phantom.affine, compress=True)
        _add_rows(tables, scan)
    _write_csv(folder / "annotations.csv", ANNOTATION_COLUMNS, tables["annotations"])
    _write_csv(folder / "annotations_excluded.csv", ANNOTATION_COLUMNS, tables["excluded"])
    for name in ("candidates.csv", "candidates_V2.csv"):
        _write_csv(folder / name, CANDIDATE_COLUMNS, tables["candidates"])
    sample = [{**row, "probability": 0.5} for row in tables["candidates"]]
    _write_csv(folder / "sampleSubmission.csv", SUBMISSION_COLUMNS, sample)
    return folder


def luna_scan(
    seed: int,
    patient: int,
    *,
    shape: Shape3,
    spacing: Spacing3,
    nodules: int = 6,
    distractors: int = 8,
    diameters_mm: tuple[float, float] = (7.0, 20.0),
) -> LunaScan:
    """Make the scan of one patient of a cohort, as :func:`write_luna16` writes it."""
    rng = np.random.default_rng([seed, patient, 16])
    thick = patient % THICK_EVERY == THICK_EVERY - 1
    slices = (round(shape[2] * spacing[2] / 2.5), 2.5) if thick else (shape[2], spacing[2])
    x, y, z = rng.uniform((-40, -40, -260), (40, 40, -120)).round(2).tolist()
    phantom = chest_phantom(
        [seed, patient],
        (shape[0], shape[1], slices[0]),
        (spacing[0], spacing[1], slices[1]),
        nodules=int(rng.integers(max(nodules - 2, 0), nodules + 3)),
        distractors=distractors,
        diameters_mm=diameters_mm,
        orientation="RAS" if patient % FLIPPED_EVERY == FLIPPED_EVERY - 1 else "LPS",
        centre=(x, y, z),
    )
    return LunaScan(uid=phantom_uid("LUNA16", seed, patient), subset=patient % SUBSETS, phantom=phantom)


def write_mhd(path: str | Path, array: npt.NDArray, affine: npt.NDArray, *, compress: bool = False) -> None:
    """Write (i, j, k) voxels with an affine to mm in RAS+ as MetaImage: ``.mhd`` with ``.raw`` or ``.zraw`` beside it.

    The header, without which nothing can be read, appears last and whole.
    """
    path = Path(path)
    columns = np.diag([-1.0, -1.0, 1.0]) @ affine[:3, :3]
    spacing = np.linalg.norm(columns, axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((columns / spacing).ravel().tolist())
    image.SetOrigin((affine[:3, 3] * (-1, -1, 1)).tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as temporary:
        sitk.WriteImage(image, str(Path(temporary) / path.name), useCompression=compress)
        for file in sorted(Path(temporary).iterdir(), key=lambda file: file.suffix == path.suffix):
            with atomic_path(path.parent / file.name) as hidden:
                file.replace(hidden)


def _add_rows(tables: dict[str, list[dict[str, Any]]], scan: LunaScan) -> None:
    """Add what is known about a scan to the tables of the cohort."""
    for nodule in scan.phantom.nodules:
        tables["annotations"].append({**_row(scan.uid, nodule.centre), "diameter_mm": round(nodule.diameter_mm, 6)})
    for candidate in scan.phantom.candidates:
        tables["candidates"].append({**_row(scan.uid, candidate.position), "class": int(candidate.is_nodule)})
    scars = [candidate for candidate in scan.phantom.candidates if candidate.kind == "scar"]
    for candidate in scars[:1]:
        tables["excluded"].append({**_row(scan.uid, candidate.position), "diameter_mm": 5.0})


def _row(uid: str, position: Point) -> dict[str, Any]:
    """The columns that all tables share; the position in mm, LPS+."""
    return {"seriesuid": uid, **dict(zip(COORDINATES, (round(value, 4) for value in lps(position)), strict=True))}


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Write a table, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write_text(path, text.getvalue())


def write_nodule_scans(
    folder: str | Path,
    patients: int = 12,
    seed: int = 0,
    *,
    shape: Shape3 = (72, 60, 40),
    spacing: Spacing3 = (2.5, 2.5, 2.5),
    nodules: int = 3,
    distractors: int = 6,
    diameters_mm: tuple[float, float] = (6.0, 24.0),
) -> Path:
    """Write phantom chests in LUNA16's layout and prepare them with its adapter, for detection of nodules.

    The default chests are coarse, so that a cohort is written and a detector trained in seconds.

    Args:
        folder: gets the layout and ``manifest.json``.
        patients: how many, three at least; one subset is held out for validation, and one for the test.
        seed: see :func:`write_luna16`, as for the next four.
        shape: see there.
        spacing: see there.
        nodules: see there.
        distractors: see there.
        diameters_mm: smallest and largest nodule; it has to hold a few voxels.

    Returns:
        Path of the manifest, with training, validation and test lists of whole scans and boxes around their nodules.
    """
    folder = Path(folder)
    root = write_luna16(
        folder / "luna16",
        patients,
        seed,
        shape=shape,
        spacing=spacing,
        nodules=nodules,
        distractors=distractors,
        diameters_mm=diameters_mm,
    )
    return as_phantoms(prepare("luna16", root, folder / "manifest.json", task="nodules", seed=seed).path)
