"""DICOM files and their headers: which files there are, and what their tags say."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ImplicitVRLittleEndian, MediaStorageDirectoryStorage

from medresnet3d.errors import DataError
from medresnet3d.io.dicom_elements import read_header
from medresnet3d.io.reading import DICOM_SUFFIXES, is_dicom


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


def read_headers(files: Iterable[Path], damaged: list[DataError] | None = None) -> Iterator[tuple[Path, Dataset]]:
    """Read the headers of image files, one by one; directories and objects without pixels are left out.

    Args:
        files: to read.
        damaged: gets the errors of files that cannot be read, which are left out then.

    Raises:
        DataError: if a file is damaged, and there is nobody to tell it.
    """
    for path in files:
        try:
            dataset = _read(path)
        except DataError as error:
            if damaged is None:
                raise
            damaged.append(error)
            continue
        if dataset is not None:
            yield path, dataset


def _read(path: Path) -> Dataset | None:
    """Read the header of an image; ``None`` for a directory or an object without pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid value in a tag nobody needs stops nothing
            dataset = read_header(path)
    except (InvalidDicomError, EOFError, OSError, ValueError, NotImplementedError, AttributeError) as error:
        raise DataError(f"{path}: the DICOM file is damaged or is none ({error}); copy it again.") from error
    if not dataset:
        raise DataError(f"{path}: the DICOM file is damaged: it has no elements; copy it again.")
    dataset.file_meta.TransferSyntaxUID = dataset.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)
    if dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        return None
    if "Rows" in dataset and "Columns" in dataset:
        return dataset
    if "Image Storage" in UID(_sop_class(dataset)).name:
        raise DataError(f"{path}: the DICOM file is damaged or cut short: it has no image size; copy it again.")
    return None


def _sop_class(dataset: Dataset) -> str:
    return str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or "")
