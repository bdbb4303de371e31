"""From DICOM files to slices: one record for each image plane, whatever kind of file it came in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.tag import Tag

from medresnet3d.io.dicom_mosaic import Mosaic, find_mosaic
from medresnet3d.io.dicom_values import number, numbers, text

SHARED = "SharedFunctionalGroupsSequence"
PER_FRAME = "PerFrameFunctionalGroupsSequence"
PHILIPS_FRAME = Tag(0x2005, 0x140F)
TOMOGRAPHIC = ("NM", "PT", "CT", "MR")
"""Modalities whose multi-frame files without a position for each frame hold parallel slices."""


@dataclass(frozen=True, eq=False)
class Slice:
    """One image plane.

    Args:
        path: its file.
        dataset: the file's header, without pixel data.
        frame: 0-based frame within the file.
        position: centre of the first voxel in LPS millimetres, or ``None``.
        orientation: direction cosines (2, 3): along a row, then along a column; or ``None``.
        pixel_spacing: millimetres between rows and between columns, or ``None``.
        thickness: millimetres between slices or, failing that, of a slice, as the header has it; or ``None``.
        slope: rescale slope.
        intercept: rescale intercept.
        functional: the per-frame functional groups of an enhanced multi-frame file.
        mosaic: how the plane is divided, if it holds a whole volume as tiles; ``position`` is then that of the first
            tile.
    """

    path: Path
    dataset: Dataset
    frame: int
    position: NDArray[np.float64] | None
    orientation: NDArray[np.float64] | None
    pixel_spacing: tuple[float, float] | None
    thickness: float | None
    slope: float
    intercept: float
    functional: Dataset | None = None
    mosaic: Mosaic | None = None

    @property
    def place(self) -> str:
        """File and frame, for messages."""
        single = self.functional is None and not self.frame
        return self.path.name if single else f"{self.path.name} frame {self.frame + 1}"


def slices_of(path: Path, dataset: Dataset) -> list[Slice]:
    """Give the slices of one file: one for a classic instance, one a frame for a multi-frame one."""
    frames = int(number(dataset, "NumberOfFrames") or 1)
    per_frame = dataset.get(PER_FRAME)
    if not per_frame:
        first = _classic(path, dataset)
        return [first] if frames == 1 else _frames(first, frames)
    shared = dataset[SHARED][0] if dataset.get(SHARED) else Dataset()
    return [_enhanced(path, dataset, frame, groups, shared) for frame, groups in enumerate(per_frame)]


def _classic(path: Path, dataset: Dataset) -> Slice:
    mosaic = find_mosaic(dataset)
    return Slice(
        path,
        dataset,
        0,
        mosaic.origin if mosaic else _position(dataset, dataset),
        _orientation(dataset),
        _pixel_spacing(dataset),
        number(dataset, "SpacingBetweenSlices") or number(dataset, "SliceThickness"),
        _or(number(dataset, "RescaleSlope") or number(dataset, "DoseGridScaling"), 1.0),
        _or(number(dataset, "RescaleIntercept"), 0.0),
        mosaic=mosaic,
    )


def _frames(first: Slice, count: int) -> list[Slice]:
    """Place the frames of a multi-frame file that has one position only: tomographic ones lie along the normal."""
    dataset = first.dataset
    detector = dataset.get("DetectorInformationSequence")
    position, orientation = first.position, first.orientation
    if detector and (position is None or orientation is None):
        position, orientation = numbers(detector[0], "ImagePositionPatient", 3), _orientation(detector[0])
    offsets: NDArray[Any] | None = numbers(dataset, "GridFrameOffsetVector", count)
    if offsets is None and text(dataset, "Modality") in TOMOGRAPHIC and first.thickness:
        index = numbers(dataset, "SliceVector", count)
        offsets = (np.arange(count) if index is None else index - 1) * first.thickness
    if offsets is None or position is None or orientation is None:
        return [replace(first, frame=frame) for frame in range(count)]
    normal = np.cross(*orientation)
    return [
        replace(first, frame=frame, position=position + offset * normal, orientation=orientation)
        for frame, offset in enumerate(offsets)
    ]


def _enhanced(path: Path, dataset: Dataset, frame: int, groups: Dataset, shared: Dataset) -> Slice:
    def group(name: str) -> Dataset:
        found = groups.get(name) or shared.get(name)
        return found[0] if found else Dataset()

    measures = group("PixelMeasuresSequence")
    values = group("PixelValueTransformationSequence")
    return Slice(
        path,
        dataset,
        frame,
        _position(group("PlanePositionSequence"), groups),
        _orientation(group("PlaneOrientationSequence")),
        _pixel_spacing(measures),
        number(measures, "SpacingBetweenSlices") or number(measures, "SliceThickness"),
        _or(number(values, "RescaleSlope"), 1.0),
        _or(number(values, "RescaleIntercept"), 0.0),
        groups,
    )


def _position(plane: Dataset, whole: Dataset) -> NDArray[np.float64] | None:
    """Give the position of a plane; some PACS leave it in Philips' private sequence only."""
    found = numbers(plane, "ImagePositionPatient", 3)
    if found is None and PHILIPS_FRAME in whole and whole[PHILIPS_FRAME].VR == "SQ" and whole[PHILIPS_FRAME].value:
        found = numbers(whole[PHILIPS_FRAME].value[0], "ImagePositionPatient", 3)
    return found


def _orientation(dataset: Dataset) -> NDArray[np.float64] | None:
    found = numbers(dataset, "ImageOrientationPatient", 6)
    return None if found is None else found.reshape(2, 3)


def _pixel_spacing(dataset: Dataset) -> tuple[float, float] | None:
    for name in ("PixelSpacing", "ImagerPixelSpacing"):
        found = numbers(dataset, name, 2)
        if found is not None:
            return float(found[0]), float(found[1])
    return None


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
