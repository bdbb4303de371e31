"""Series as particular vendors write them: Siemens mosaics, UIH grids, enhanced multi-frame files."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import CTImageStorage, EnhancedMRImageStorage, MRImageStorage

from tests.io.dicom_maker import Series


def mr(series: Series, manufacturer: str = "SIEMENS") -> Series:
    """The series as classic MR without rescaling."""
    series.slope, series.intercept = 1.0, 0.0
    series.tags = {
        "SOPClassUID": MRImageStorage,
        "Modality": "MR",
        "Manufacturer": manufacturer,
        "PatientPosition": "HFS",
        "ProtocolName": "phantom",
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
        "EchoTime": 30,
        "RepetitionTime": 2000,
        **series.tags,
    }
    return series


def siemens_header(tiles: int, normal: NDArray[np.float64]) -> bytes:
    """Siemens' private header (CSA2) with the two fields that a mosaic needs."""
    fields = {
        ("NumberOfImagesInMosaic", b"US"): [str(tiles)],
        ("SliceNormalVector", b"FD"): [f"{value:.8f}" for value in normal],
    }
    out = b"SV10\x04\x03\x02\x01" + struct.pack("<2I", len(fields), 77)
    for (name, kind), values in fields.items():
        items = [text.encode() + b"\0" for text in values] + [b""] * (6 - len(values))
        out += struct.pack("<64si4s3i", name.encode(), len(values), kind, 4, len(items), 77)
        for item in items:
            padded = item + b"\0" * (-len(item) % 4)
            out += struct.pack("<4i", len(item), len(item), 77, len(item)) + padded
    return out


def tiled(volume: NDArray[Any], across: int, down: int) -> NDArray[Any]:
    """Volume (columns, rows, slices) as one picture (rows, columns) of tiles, row by row."""
    columns, rows, slices = volume.shape
    picture = np.zeros((down * rows, across * columns), volume.dtype)
    for k in range(slices):
        top, left = k // across * rows, k % across * columns
        picture[top : top + rows, left : left + columns] = volume[:, :, k].T
    return picture


def siemens_mosaic(series: Series, number: int = 1, *, reverse: bool = False, csa: bool = True) -> Dataset:
    """All slices of a series as one Siemens mosaic; ``reverse`` numbers them against the normal of the plane."""
    columns, rows, slices = series.stored.shape
    row, column = np.reshape(series.orientation, (2, 3))
    across = math.ceil(math.sqrt(slices))
    stored = series.stored[:, :, ::-1] if reverse else series.stored
    first = np.array(series.origin) + (slices - 1) * series.step * reverse
    ds = mr(series).dataset(0)
    picture = tiled(stored, across, across)
    ds.Rows, ds.Columns = picture.shape
    ds.PixelData = picture.tobytes()
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    corner = first - (across - 1) * columns / 2 * series.spacing[0] * row
    corner = corner - (across - 1) * rows / 2 * series.spacing[1] * column
    ds.ImagePositionPatient = [f"{value:.9g}" for value in corner]
    ds.SpacingBetweenSlices, ds.InstanceNumber, ds.AcquisitionNumber = series.spacing[2], number, number
    ds.AcquisitionMatrix = [0, columns, rows, 0]
    block = ds.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    if csa:
        block.add_new(0x0A, "US", slices)
        normal = np.cross(row, column) * (-1 if reverse else 1)
        header = ds.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        header.add_new(0x10, "OB", siemens_header(slices, normal))
    return ds


def uih_grid(series: Series, number: int = 1) -> Dataset:
    """All slices of a series as one grid of United Imaging, with the position of every slice."""
    slices = series.stored.shape[2]
    across = math.ceil(math.sqrt(slices))
    ds = mr(series, "UIH").dataset(0)
    picture = tiled(series.stored, across, math.ceil(slices / across))
    ds.Rows, ds.Columns = picture.shape
    ds.PixelData = picture.tobytes()
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "VFRAME"]
    ds.SpacingBetweenSlices, ds.InstanceNumber, ds.AcquisitionNumber = series.spacing[2], number, number
    block = ds.private_block(0x0065, "Image Private Header", create=True)
    block.add_new(0x50, "DS", str(slices))
    frames = []
    for k in range(slices):
        frame = Dataset()
        frame.AcquisitionTime = f"12000{k}.000000"
        frame.ImagePositionPatient = [f"{value:.9g}" for value in np.array(series.origin) + k * series.step]
        frames.append(frame)
    block.add_new(0x51, "SQ", frames)
    return ds


@dataclass
class Frame:
    """One frame: slice ``k`` of volume ``t`` of several."""

    k: int
    t: int = 0


def enhanced_mr(
    volumes: Sequence[Series],
    frames: Sequence[Frame],
    change: Callable[[Dataset, Frame], None] | None = None,
    manufacturer: str = "Philips Medical Systems",
) -> Dataset:
    """Volumes on one grid as one enhanced multi-frame file, frames in the order given; ``change`` adds to each."""
    first = volumes[0]
    ds = mr(first, manufacturer).dataset(0)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        delattr(ds, tag)
    ds.NumberOfFrames = len(frames)
    planes = [volumes[frame.t].stored[:, :, frame.k].T for frame in frames]
    ds.PixelData = np.ascontiguousarray(planes).tobytes()
    ds.SharedFunctionalGroupsSequence = [_shared(first)]
    ds.PerFrameFunctionalGroupsSequence = [_per_frame(first, frame, change) for frame in frames]
    return ds


def _shared(series: Series) -> Dataset:
    shared, measures, orientation, values = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [series.spacing[1], series.spacing[0]], series.spacing[2]
    measures.SpacingBetweenSlices = series.spacing[2]
    orientation.ImageOrientationPatient = [float(value) for value in series.orientation]
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 1, 0, "US"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    shared.PixelValueTransformationSequence = [values]
    return shared


def _per_frame(series: Series, frame: Frame, change: Callable[[Dataset, Frame], None] | None) -> Dataset:
    groups, position, content = Dataset(), Dataset(), Dataset()
    position.ImagePositionPatient = [float(value) for value in np.array(series.origin) + frame.k * series.step]
    content.StackID, content.InStackPositionNumber = "1", frame.k + 1
    content.TemporalPositionIndex = frame.t + 1
    content.DimensionIndexValues = [1, frame.k + 1, frame.t + 1]
    groups.PlanePositionSequence, groups.FrameContentSequence = [position], [content]
    if change is not None:
        change(groups, frame)
    return groups


def tomographic(series: Series) -> Dataset:
    """All slices as one multi-frame nuclear medicine file, which has one position only."""
    ds = series.dataset(0)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
    ds.Modality, ds.NumberOfFrames = "NM", series.stored.shape[2]
    detector = Dataset()
    detector.ImagePositionPatient, detector.ImageOrientationPatient = ds.ImagePositionPatient, list(series.orientation)
    del ds.ImagePositionPatient, ds.ImageOrientationPatient
    ds.DetectorInformationSequence, ds.SpacingBetweenSlices = [detector], series.spacing[2]
    ds.SliceVector = list(range(1, series.stored.shape[2] + 1))
    ds.PixelData = np.ascontiguousarray(series.stored.T).tobytes()
    return ds


def save(dataset: Dataset, path: Path) -> Path:
    """Write one file below a folder that is made if need be; give the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.save_as(path, enforce_file_format=True)
    return path.parent
