"""What every DICOM object that holds a result shares: its source headers, codes, and the sentence on research use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from highdicom.sr.coding import CodedConcept
from pydicom import Dataset
from pydicom.uid import generate_uid
from pydicom.valuerep import format_number_as_ds

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.io.dicom_planes import SourcePlanes, is_multi_frame
from medresnet3d.io.dicom_values import number
from medresnet3d.io.volume import Volume

DISCLAIMER = "Research use only. Not for clinical use."
MANUFACTURER = "medresnet3d"
LONGEST_NAME = 64
"""Of names and descriptions in DICOM (VR LO)."""
PRIVATE_SCHEME = "99MEDRESNET"
SERIES_OFFSETS = {"SEG": 1000, "SR": 2000, "SC": 3000}
_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyDate", "StudyTime", "StudyID", "ReferringPhysicianName"),
)


def source_headers(volume: Volume, what: str) -> list[Dataset]:
    """Give copies of the source headers in which tags that must exist but may be empty exist.

    Anonymised files often lack them. The result belongs to the same patient and study as its source.

    Args:
        volume: the scan, read from DICOM.
        what: the object to be written, for messages.

    Raises:
        DataError: if the scan is not DICOM, or lacks an identifier by which a result could refer to it.
    """
    if volume.source.format != "dicom":
        raise DataError(f"{volume.source.name}: {what} needs a DICOM scan to refer to, this is {volume.source.format}.")
    return [_completed(dataset, volume, what) for dataset in volume.source.datasets]


def _completed(dataset: Dataset, volume: Volume, what: str) -> Dataset:
    missing = [tag for tag in _NEEDED if not dataset.get(tag)]
    if missing:
        raise DataError(
            f"{volume.source.name}: the headers have no {missing[0]}, by which {what} would refer to the scan; choose "
            "the format nifti."
        )
    complete = Dataset()
    complete.update(dataset)  # a copy that shares the elements, none of which is changed
    complete.file_meta = dataset.file_meta
    for tag in _MAY_BE_EMPTY:
        if tag not in complete:
            setattr(complete, tag, "")
    return complete


def placed(headers: list[Dataset], volume: Volume, planes: SourcePlanes) -> list[Dataset]:
    """Put the geometry of the source planes into the headers, where and as highdicom looks for it.

    Files differ in where they keep it and in the last digits; a header made here has one orientation for all planes.
    """
    for one in headers:
        if not one.get("FrameOfReferenceUID"):
            one.FrameOfReferenceUID = generate_uid(entropy_srcs=[str(one.SeriesInstanceUID)])
    if is_multi_frame(volume):
        return [_multi_frame(headers[0], planes)]
    for one, position in zip(headers, planes.positions, strict=True):
        one.ImageOrientationPatient = decimals(planes.cosines.ravel())
        one.PixelSpacing = decimals(planes.spacing)
        one.SliceThickness = decimals([planes.thickness])[0]
        if number_of(one, "ImagePositionPatient") != 3:
            one.ImagePositionPatient = decimals(position)
    return headers


def _multi_frame(header: Dataset, planes: SourcePlanes) -> Dataset:
    """Give a multi-frame header that has the frames of this volume only, in its order."""
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = decimals(planes.spacing)
    measures.SliceThickness = decimals([planes.thickness])[0]
    orientation.ImageOrientationPatient = decimals(planes.cosines.ravel())
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    frames = []
    for place in planes.positions:
        position, groups = Dataset(), Dataset()
        position.ImagePositionPatient = decimals(place)
        groups.PlanePositionSequence = [position]
        frames.append(groups)
    header.SharedFunctionalGroupsSequence, header.PerFrameFunctionalGroupsSequence = [shared], frames
    header.NumberOfFrames = len(frames)
    return header


def number_of(dataset: Dataset, tag: str) -> int:
    """Tell how many values a tag has."""
    value = dataset.get(tag)
    return 0 if value is None else len(value)


def decimals(values: Any) -> list[str]:
    """Give numbers as DICOM decimal strings, which have at most 16 characters."""
    return [format_number_as_ds(float(value)) for value in values]


def coded(code: Any, name: str) -> CodedConcept:
    """Make a code of ``[value, scheme, meaning]`` or of a mapping with these keys.

    Args:
        code: from the bundle's metadata.
        name: the label that it belongs to, for the message.

    Raises:
        ConfigError: if it is malformed.
    """
    if isinstance(code, Mapping):
        code = (code.get("value"), code.get("scheme"), code.get("meaning"))
    if (
        not isinstance(code, (list, tuple))
        or len(code) != 3
        or not all(isinstance(part, str) and part for part in code)
    ):
        raise ConfigError(f"the code of label {name!r} is {code!r}; give [value, scheme, meaning], all text.")
    return CodedConcept(*code)


def new_series(header: Dataset, kind: str) -> dict[str, Any]:
    """Give the identifiers of a new series of one instance in the study of ``header``.

    Args:
        header: of the source.
        kind: ``"SEG"``, ``"SR"`` or ``"SC"``.
    """
    return {
        "series_instance_uid": generate_uid(),
        "series_number": SERIES_OFFSETS[kind] + int(number(header, "SeriesNumber") or 0),
        "sop_instance_uid": generate_uid(),
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
    }
