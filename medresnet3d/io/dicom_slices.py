"""From DICOM files to slices: one record for each image plane, whatever kind of file it came in."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ImplicitVRLittleEndian, MediaStorageDirectoryStorage

from medresnet3d.errors import DataError
from medresnet3d.io.reading import DICOM_SUFFIXES, is_dicom

SHARED = "SharedFunctionalGroupsSequence"
PER_FRAME = "PerFrameFunctionalGroupsSequence"


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

    @property
    def place(self) -> str:
        """File and frame, for messages."""
        return self.path.name if self.functional is None else f"{self.path.name} frame {self.frame + 1}"


def text(dataset: Dataset, name: str, default: str = "") -> str:
    """Give a tag as text; an absent or unreadable value gives ``default``."""
    try:
        value = dataset.get(name)
    except (ValueError, TypeError, UnicodeError):
        return default
    if value is None or value == "":
        return default
    return "\\".join(map(str, value)) if isinstance(value, (list, tuple)) or _is_multi(value) else str(value)


def numbers(dataset: Dataset, name: str, count: int) -> NDArray[np.float64] | None:
    """Give a numeric tag as ``count`` finite floats, or ``None`` if it is absent, unreadable or of another length."""
    try:
        value = dataset.get(name)
        if value is None or value == "":
            return None
        array = np.array(value if _is_multi(value) else [value], dtype=np.float64)
    except (ValueError, TypeError):
        return None
    return array if array.shape == (count,) and np.isfinite(array).all() else None


def number(dataset: Dataset, name: str) -> float | None:
    """Give a numeric tag as a float, or ``None`` if it is absent or unreadable."""
    found = numbers(dataset, name, 1)
    return None if found is None else float(found[0])


def _is_multi(value: Any) -> bool:
    return hasattr(value, "__iter__") and not isinstance(value, (str, bytes))


def dicom_files(source: Path | Sequence[Path], name: str | None = None) -> list[Path]:
    """List the files that may be DICOM: those of a folder with all its sub-folders, of a DICOMDIR, or those given.

    Args:
        source: a folder, a file, or a list of them.
        name: what to call ``source`` in messages.

    Raises:
        DataError: if a folder is empty or holds no DICOM file, or a DICOMDIR lists missing files.
    """
    if not isinstance(source, Path):
        return [file for one in source for file in dicom_files(one)]
    if source.is_dir():
        everything = sorted(path for path in source.rglob("*") if path.is_file())
        if not everything:
            raise DataError(f"{name or source}: the folder is empty; give a folder of DICOM files or an image file.")
        found = [path for path in everything if _may_be_slice(path)]
        if not found:
            raise DataError(
                f"{name or source}: none of the {len(everything)} files in it is DICOM; give the image file itself."
            )
        return found
    return _listed_files(source) if source.name.upper() == "DICOMDIR" else [source]


def _may_be_slice(path: Path) -> bool:
    """Tell DICOM files by content; one that only is called so is kept too, since a lost slice must not go unnoticed."""
    if path.name.startswith("._") or path.name.upper() == "DICOMDIR":  # macOS leaves `._name` beside copies
        return False
    return is_dicom(path) or path.suffix.lower() in DICOM_SUFFIXES


def _listed_files(dicomdir: Path) -> list[Path]:
    """Give the files that a DICOMDIR lists; pydicom's FileSet would leave out missing ones in silence."""
    try:
        records = dcmread(dicomdir).DirectoryRecordSequence
        parts = [record.ReferencedFileID for record in records if "ReferencedFileID" in record]
    except (ValueError, AttributeError, KeyError, OSError, InvalidDicomError) as error:
        raise DataError(f"{dicomdir}: the DICOMDIR cannot be read ({error}); give its folder instead.") from error
    listed = [dicomdir.parent.joinpath(*([part] if isinstance(part, str) else part)) for part in parts]
    missing = [path for path in listed if not path.is_file()]
    if missing:
        raise DataError(
            f"{dicomdir}: {len(missing)} of the {len(listed)} listed files are missing, for example {missing[0].name}; "
            "copy the complete medium."
        )
    return listed


def read_headers(files: Iterable[Path]) -> Iterator[tuple[Path, Dataset]]:
    """Read the headers of image files, one by one; directories and objects without pixels are left out.

    Raises:
        DataError: if a file is damaged.
    """
    for path in files:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an invalid value in a tag nobody needs stops nothing
                dataset = dcmread(path, stop_before_pixels=True, force=is_dicom(path))
        except (InvalidDicomError, EOFError, OSError, ValueError, NotImplementedError, AttributeError) as error:
            raise DataError(f"{path}: the DICOM file is damaged or is none ({error}); copy it again.") from error
        if not dataset:
            raise DataError(f"{path}: the DICOM file is damaged: it has no elements; copy it again.")
        dataset.file_meta.TransferSyntaxUID = dataset.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)
        if dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
            continue
        if "Rows" in dataset and "Columns" in dataset:
            yield path, dataset
        elif "Image Storage" in UID(_sop_class(dataset)).name:
            raise DataError(f"{path}: the DICOM file is damaged or cut short: it has no image size; copy it again.")


def _sop_class(dataset: Dataset) -> str:
    return str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or "")


def slices_of(path: Path, dataset: Dataset) -> list[Slice]:
    """Give the slices of one file: one for a classic instance, one a frame for a multi-frame one."""
    frames = int(number(dataset, "NumberOfFrames") or 1)
    per_frame = dataset.get(PER_FRAME)
    if not per_frame:
        return [_classic(path, dataset, frame) for frame in range(frames)]
    shared = dataset[SHARED][0] if dataset.get(SHARED) else Dataset()
    return [_enhanced(path, dataset, frame, groups, shared) for frame, groups in enumerate(per_frame)]


def _classic(path: Path, dataset: Dataset, frame: int) -> Slice:
    return Slice(
        path,
        dataset,
        frame,
        numbers(dataset, "ImagePositionPatient", 3),
        _orientation(dataset),
        _pixel_spacing(dataset),
        number(dataset, "SpacingBetweenSlices") or number(dataset, "SliceThickness"),
        _or(number(dataset, "RescaleSlope"), 1.0),
        _or(number(dataset, "RescaleIntercept"), 0.0),
    )


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
        numbers(group("PlanePositionSequence"), "ImagePositionPatient", 3),
        _orientation(group("PlaneOrientationSequence")),
        _pixel_spacing(measures),
        number(measures, "SpacingBetweenSlices") or number(measures, "SliceThickness"),
        _or(number(values, "RescaleSlope"), 1.0),
        _or(number(values, "RescaleIntercept"), 0.0),
        groups,
    )


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
