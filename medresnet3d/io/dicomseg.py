"""DICOM SEG out and back in, on the voxels of its source instances."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from highdicom.sr.coding import CodedConcept
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid

from medresnet3d._version import __version__
from medresnet3d.errors import ConfigError, DataError, GeometryError
from medresnet3d.io.atomic import atomic_path
from medresnet3d.io.dicom_slices import number
from medresnet3d.io.volume import Volume
from medresnet3d.io.writing import Labels

DISCLAIMER = "Research use only. Not for clinical use."
GENERIC_CODE = ("91723000", "SCT", "Anatomical Structure")
KINDS = ("binary", "labelmap", "fractional")
LONGEST_NAME = 64
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyDate", "StudyTime", "StudyID", "ReferringPhysicianName"),
)


def write_dicom_seg(
    mask: NDArray[Any],
    volume: Volume,
    labels: Labels,
    path: str | os.PathLike[str],
    *,
    codes: Mapping[str, Any] | None = None,
    bundle: str = "medresnet3d",
    version: str = "",
    kind: str = "binary",
) -> Path:
    """Write a label map as DICOM SEG that refers to the instances of its scan.

    Args:
        mask: label map of shape (i, j, k) on the grid of ``volume``; 0 is background. For ``kind="fractional"`` it may
            be probabilities of shape (n, i, j, k), one channel a label from 1 to n.
        volume: the scan, read from DICOM.
        labels: names in order of the label values (background first), or by value.
        path: the file to write.
        codes: by label value (as text), ``{"category": CODE, "type": CODE}`` where CODE is
            ``[value, scheme, meaning]``, for example ``["12738006", "SCT", "Brain"]``; labels without one are coded as
            an anatomical structure.
        bundle: name of the bundle that made the mask.
        version: its version.
        kind: ``"binary"`` (read by every viewer), ``"labelmap"`` or ``"fractional"`` (both compressed by RLE).

    Returns:
        The path.

    Raises:
        ConfigError: if ``kind`` or a code is malformed.
        DataError: if the scan is not DICOM, or the mask has a value that ``labels`` does not name.
        GeometryError: if the mask is not on the grid of the scan.
    """
    if volume.source.format != "dicom":
        raise DataError(
            f"{volume.source.name}: DICOM SEG needs a DICOM scan to refer to, this is {volume.source.format}."
        )
    if kind not in KINDS:
        raise ConfigError(f"the DICOM SEG kind {kind!r} is not known; choose one of {', '.join(KINDS)}.")
    if mask.shape[-3:] != volume.shape or mask.ndim not in (3, 4):
        raise GeometryError(f"{path}: a mask of shape {mask.shape} does not fit {volume.source.name}, {volume.shape}.")
    names = _names(labels, mask, volume)
    described = [
        _describe(value, name, (codes or {}).get(str(value)), bundle, version) for value, name in names.items()
    ]
    sources = [_completed(dataset) for dataset in volume.source.datasets]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values of the source that break the standard are copied as they are
        segmentation = hd.seg.Segmentation(
            source_images=sources,
            pixel_array=_source_order(mask, volume),
            segmentation_type=kind.upper(),
            segment_descriptions=described,
            series_instance_uid=generate_uid(),
            series_number=1000 + int(number(sources[0], "SeriesNumber") or 0),
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="medresnet3d",
            manufacturer_model_name=bundle[:LONGEST_NAME],
            software_versions=__version__,
            device_serial_number="0",
            content_description=DISCLAIMER,
            content_label="SEGMENTATION",
            series_description=f"Segmentation. {DISCLAIMER}",
            transfer_syntax_uid=ExplicitVRLittleEndian if kind == "binary" else RLELossless,
            omit_empty_frames=bool(mask.any()),
        )
    target = Path(path)
    with atomic_path(target) as temporary:
        segmentation.save_as(temporary)
    return target


def read_dicom_seg(path: str | os.PathLike[str], volume: Volume) -> NDArray[np.uint8 | np.uint16]:
    """Read a DICOM SEG as a label map on the voxels of its scan.

    Args:
        path: the SEG file.
        volume: the scan that it was made from.

    Returns:
        Label map of shape (i, j, k) on the grid of ``volume``; the values are the segment numbers.

    Raises:
        DataError: if the file is no DICOM SEG, or segments overlap.
        GeometryError: if it does not refer to the instances of ``volume``.
    """
    try:
        segmentation = hd.seg.segread(path)
    except (InvalidDicomError, ValueError, OSError) as error:
        raise DataError(f"{path}: cannot be read as DICOM SEG ({error}).") from error
    uids = [dataset.SOPInstanceUID for dataset in volume.source.datasets]
    foreign = {uid for _, _, uid in segmentation.get_source_image_uids()}.difference(uids)
    if foreign:
        raise GeometryError(
            f"{path}: refers to {len(foreign)} instances that are not among those of {volume.source.name}; "
            "give the scan that it was made from."
        )
    options: dict[str, Any] = {
        "combine_segments": True,
        "ignore_spatial_locations": True,
        "assert_missing_frames_are_empty": True,
    }
    try:
        if volume.source.frames:
            frames = [frame + 1 for frame in volume.source.frames]
            planes = segmentation.get_pixels_by_source_frame(uids[0], frames, **options)
        else:
            planes = segmentation.get_pixels_by_source_instance(uids, **options)
    except RuntimeError as error:
        raise DataError(f"{path}: its segments overlap, so they do not make a label map ({error}).") from error
    except (KeyError, ValueError) as error:
        reason = str(error).strip("'").splitlines()[0]
        raise GeometryError(f"{path}: does not lie on the slices of {volume.source.name} ({reason}).") from error
    return planes.T


def _names(labels: Labels, mask: NDArray[Any], volume: Volume) -> dict[int, str]:
    """Give names of the values 1 to n, refusing values of the mask that have none."""
    given = labels.items() if isinstance(labels, Mapping) else enumerate(labels)
    names = {int(value): str(name) for value, name in given if int(value) > 0}
    if not names:
        raise DataError(f"{volume.source.name}: a DICOM SEG needs at least one label beside the background.")
    last = max(names)
    found = mask.shape[0] if mask.ndim == 4 else int(mask.max())
    if found > last:
        raise DataError(f"{volume.source.name}: the mask has label {found}, but the class list ends at {last}.")
    return {value: names.get(value, f"label {value}") for value in range(1, last + 1)}


def _source_order(mask: NDArray[Any], volume: Volume) -> NDArray[Any]:
    """Give planes (n, rows, columns) in the order of the source instances or of the frames of the source file."""
    planes = np.moveaxis(mask, 0, -1) if mask.ndim == 4 else mask
    planes = np.ascontiguousarray(planes.swapaxes(0, 2))
    if planes.dtype.kind != "f":
        planes = planes.astype(np.uint8 if planes.max() < 256 else np.uint16)
    if not volume.source.frames:
        return planes
    total = max(int(number(volume.source.datasets[0], "NumberOfFrames") or 1), 1)
    full = np.zeros((total, *planes.shape[1:]), planes.dtype)
    full[list(volume.source.frames)] = planes
    return full


def _describe(value: int, name: str, code: Mapping[str, Any] | None, bundle: str, version: str) -> Any:
    code = code or {}
    return hd.seg.SegmentDescription(
        segment_number=value,
        segment_label=name[:LONGEST_NAME],
        segmented_property_category=_code(code.get("category", GENERIC_CODE), name),
        segmented_property_type=_code(code.get("type", GENERIC_CODE), name),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=bundle[:LONGEST_NAME],
            version=version or __version__,
            family=CodedConcept("123110", "DCM", "Artificial Intelligence"),
        ),
    )


def _code(code: Any, name: str) -> CodedConcept:
    if isinstance(code, Mapping):
        code = (code.get("value"), code.get("scheme"), code.get("meaning"))
    if (
        not isinstance(code, (list, tuple))
        or len(code) != 3
        or not all(isinstance(part, str) and part for part in code)
    ):
        raise ConfigError(f"the code of label {name!r} is {code!r}; give [value, scheme, meaning], all text.")
    return CodedConcept(*code)


def _completed(dataset: Dataset) -> Dataset:
    """Give the header with the tags that may be empty but must exist, which anonymised files often lack."""
    complete = Dataset()
    complete.update(dataset)  # a copy that shares the elements, none of which is changed
    complete.file_meta = dataset.file_meta
    for tag in _MAY_BE_EMPTY:
        if tag not in complete:
            setattr(complete, tag, "")
    if not complete.get("FrameOfReferenceUID"):
        complete.FrameOfReferenceUID = generate_uid(entropy_srcs=[str(complete.SeriesInstanceUID)])
    return complete
