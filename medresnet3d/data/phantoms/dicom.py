"""DICOM series written from arrays: valid CT images, or series with a fault for testing what reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from medresnet3d.data.phantoms.ct import ChestPhantom, chest_phantom
from medresnet3d.errors import ConfigError
from medresnet3d.io.atomic import atomic_path

UID_PREFIX = "1.2.826.0.1.3680043.8.498."
"""pydicom's own root, free for anyone's generated identifiers."""

SERIES_DESCRIPTION = "Phantom CT. Research use only."
COMMENT = "Synthetic phantom, no patient. Research use only. Not for clinical use."
RESCALE_INTERCEPT = -1024


SHARED_HEADER = {
    "SpecificCharacterSet": "ISO_IR 192",
    "ImageType": ["DERIVED", "PRIMARY", "AXIAL"],
    "SOPClassUID": CTImageStorage,
    **{f"{level}Date": "20200101" for level in ("Study", "Series", "Content")},
    **{f"{level}Time": "120000" for level in ("Study", "Series", "Content")},
    "AccessionNumber": "",
    "ReferringPhysicianName": "",
    "PatientBirthDate": "",
    "PatientSex": "O",
    "Modality": "CT",
    "Manufacturer": "medresnet3d phantom",
    "StudyDescription": "Phantom chest",
    "SeriesDescription": SERIES_DESCRIPTION,
    "ImageComments": COMMENT,
    "BodyPartExamined": "CHEST",
    "KVP": "120",
    "PatientPosition": "HFS",
    "PositionReferenceIndicator": "",
    "AcquisitionNumber": 1,
}
"""What every image of every phantom says."""


def phantom_uid(*source: object) -> str:
    """A valid DICOM UID that depends on ``source`` alone."""
    return str(generate_uid(prefix=UID_PREFIX, entropy_srcs=[str(part) for part in source]))


def write_dicom_series(
    folder: str | Path,
    array: npt.NDArray[np.integer],
    affine: npt.NDArray[np.floating],
    *,
    patient_id: str = "PHANTOM",
    study: str = "1",
    series_number: int = 1,
    file_names: str = "sorted",
    missing_slices: Sequence[int] = (),
    seed: int = 0,
    header: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write a volume as a series of CT images, one file a slice along k.

    Two series in one folder: call it twice with another ``series_number``. The study is the same as long as
    ``patient_id`` and ``study`` are.

    Args:
        folder: where the files go; created if absent.
        array: (i, j, k) in HU, -1024 or more; i becomes the columns and j the rows of the images.
        affine: (4, 4), voxel indices to mm in RAS+, without shear.
        patient_id: Patient ID; the UIDs follow from it.
        study: Study ID.
        series_number: Series Number; file names start with it.
        file_names: ``"sorted"`` by slice, or ``"shuffled"`` so that only the headers tell the order.
        missing_slices: indices along k that are left out.
        seed: for shuffled names.
        header: further values, by keyword, that every image gets.

    Returns:
        The files in the order of the slices.

    Raises:
        ConfigError: if ``file_names`` is unknown, the affine has shear, or a value lies below -1024 HU.
    """
    if file_names not in ("sorted", "shuffled"):
        raise ConfigError(f"write_dicom_series: file_names={file_names!r}; choose sorted or shuffled.")
    if array.ndim != 3 or array.min() < RESCALE_INTERCEPT:
        raise ConfigError(f"write_dicom_series: give a 3D array of HU not below {RESCALE_INTERCEPT}.")
    columns = np.diag([-1.0, -1.0, 1.0]) @ np.asarray(affine, dtype=float)[:3, :3]
    spacing = np.linalg.norm(columns, axis=0)
    axes = columns / spacing
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-4):
        raise ConfigError("write_dicom_series: the affine has shear, which a DICOM series cannot express.")
    origin = np.asarray(affine, dtype=float)[:3, 3] * (-1, -1, 1)
    count = array.shape[2]
    names = np.random.default_rng(seed).permutation(count) if file_names == "shuffled" else np.arange(count)
    stored = np.ascontiguousarray((array.astype(np.int32) - RESCALE_INTERCEPT).astype(np.uint16).transpose(2, 1, 0))
    paths = []
    for k in sorted(set(range(count)) - set(missing_slices)):
        dataset = _common_header(patient_id, study, series_number)
        _geometry(dataset, axes, spacing, origin + k * columns[:, 2], k)
        _pixels(dataset, stored[k])
        for keyword, value in (header or {}).items():
            setattr(dataset, keyword, value)
        dataset.SOPInstanceUID = phantom_uid(patient_id, study, series_number, k)
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        path = Path(folder) / f"S{series_number:02d}_{names[k] + 1:04d}.dcm"
        with atomic_path(path) as temporary:
            dataset.save_as(temporary, enforce_file_format=True)
        paths.append(path)
    return paths


def _common_header(patient_id: str, study: str, series_number: int) -> FileDataset:
    """What all images of a series share."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for keyword, value in SHARED_HEADER.items():
        setattr(dataset, keyword, value)
    dataset.PatientName = f"Phantom^{patient_id}"
    dataset.PatientID = patient_id
    dataset.StudyInstanceUID = phantom_uid(patient_id, study)
    dataset.SeriesInstanceUID = phantom_uid(patient_id, study, series_number)
    dataset.FrameOfReferenceUID = phantom_uid(patient_id, study, "frame")
    dataset.StudyID = study
    dataset.SeriesNumber = series_number
    return dataset


def _geometry(dataset: FileDataset, axes: npt.NDArray, spacing: npt.NDArray, position: npt.NDArray, k: int) -> None:
    """Where a slice lies, in mm, LPS+."""
    dataset.InstanceNumber = k + 1
    dataset.ImagePositionPatient = [f"{value:.6f}" for value in position]
    dataset.ImageOrientationPatient = [f"{value:.9f}" for value in (*axes[:, 0], *axes[:, 1])]
    dataset.PixelSpacing = [f"{spacing[1]:.6f}", f"{spacing[0]:.6f}"]
    dataset.SliceThickness = f"{spacing[2]:.6f}"
    dataset.SliceLocation = f"{float(position @ np.cross(axes[:, 0], axes[:, 1])):.6f}"


def _pixels(dataset: FileDataset, stored: npt.NDArray[np.uint16]) -> None:
    """The stored values (rows, columns) and how they become HU."""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept = str(RESCALE_INTERCEPT)
    dataset.RescaleSlope = "1"
    dataset.RescaleType = "HU"
    dataset.WindowCenter, dataset.WindowWidth = "-500", "1500"
    dataset.PixelData = stored.astype("<u2").tobytes()


def write_chest_dicom(
    folder: str | Path,
    seed: int = 0,
    *,
    file_names: str = "sorted",
    missing_slices: Sequence[int] = (),
    **phantom: Any,
) -> ChestPhantom:
    """Write a phantom chest as a DICOM series and give the phantom with its known truth.

    Args:
        folder: where the files go.
        seed: of the patient, whose ID is ``PHANTOM`` and the seed.
        file_names: see :func:`write_dicom_series`.
        missing_slices: see :func:`write_dicom_series`.
        phantom: passed on to :func:`~medresnet3d.data.phantoms.ct.chest_phantom` (``shape``, ``nodules``, ...).
    """
    chest = chest_phantom(seed, **phantom)
    write_dicom_series(
        folder,
        chest.array,
        chest.affine,
        patient_id=f"PHANTOM{seed:04d}",
        file_names=file_names,
        missing_slices=missing_slices,
    )
    return chest
