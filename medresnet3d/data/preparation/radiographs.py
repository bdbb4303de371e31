"""Small DICOM radiographs for the tiny copies of mammography sets, and the size of real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medresnet3d.data.phantoms.dicom import phantom_uid
from medresnet3d.io.atomic import atomic_path

MAMMOGRAPHY = "1.2.840.10008.5.1.4.1.1.1.2"
"""SOP class of digital mammography for presentation."""


def write_mammogram(
    path: Path,
    pixels: NDArray[np.uint16],
    patient: str = "",
    spacing: float = 0.07,
    *,
    bits: int = 16,
    inverted: bool = False,
    window: tuple[float, float] | None = None,
) -> None:
    """Write a digital mammogram without a place in the patient, as archives have them.

    Args:
        path: of the file.
        pixels: (rows, columns), high where the tissue is dense.
        patient: Patient ID.
        spacing: mm between pixels.
        bits: that are stored of each pixel; higher ones must be zero.
        inverted: store it as MONOCHROME1, high where it is to be shown dark.
        window: centre and width of the values to be shown, of what is stored.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    name = "/".join(path.parts[-3:])
    dataset, meta = Dataset(), FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = UID(MAMMOGRAPHY)
    meta.MediaStorageSOPInstanceUID = UID(phantom_uid("instance", name))
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.SeriesInstanceUID = phantom_uid("series", name)
    dataset.StudyInstanceUID = phantom_uid("study", name)
    dataset.Modality, dataset.PatientID = "MG", patient
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, bits, bits - 1, 0
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME1" if inverted else "MONOCHROME2"
    if window is not None:
        dataset.WindowCenter, dataset.WindowWidth = window
    dataset.ImagerPixelSpacing = [spacing, spacing]
    stored = 2**bits - 1 - pixels if inverted else pixels
    dataset.PixelData = stored.astype("<u2").tobytes()
    dataset.file_meta = meta
    with atomic_path(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)


def radiograph_shape(path: Path) -> tuple[int, int]:
    """(rows, columns) of a DICOM image or a picture, read from its header."""
    if path.suffix.lower() != ".dcm":
        from medresnet3d.data.preparation.masks import picture_shape

        return picture_shape(path)
    from pydicom import dcmread

    header = dcmread(path, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
    return int(header.Rows), int(header.Columns)


def radiograph_pixels(path: Path) -> NDArray[Any]:
    """Pixels (rows, columns) of a DICOM image or a picture, as they are stored."""
    if path.suffix.lower() != ".dcm":
        from medresnet3d.data.preparation.masks import read_grey

        return read_grey(path)
    from pydicom import dcmread

    return dcmread(path).pixel_array


def mask_box(mask: NDArray[Any]) -> list[int]:
    """The box around what is bright in a mask (rows, columns): x0, y0, x1, y1 in pixels, the last ones excluded."""
    rows, columns = np.nonzero(mask > mask.max() / 2)
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
