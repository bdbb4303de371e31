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
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from medresnet3d._version import __version__
from medresnet3d.errors import ConfigError, DataError, GeometryError
from medresnet3d.io.atomic import atomic_path
from medresnet3d.io.dicom_planes import SourcePlanes, from_planes, is_multi_frame, on_grid, source_planes, to_planes
from medresnet3d.io.dicom_results import (
    DISCLAIMER,
    LONGEST_NAME,
    coded,
    new_series,
    placed,
    source_headers,
)
from medresnet3d.io.volume import LPS_TO_RAS, Volume
from medresnet3d.io.writing import Labels

GENERIC_CODE = ("91723000", "SCT", "Anatomical Structure")
KINDS = ("binary", "labelmap", "fractional")


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
        kind: ``"binary"`` (the usual one), ``"labelmap"`` or ``"fractional"`` (both compressed by RLE).

    Returns:
        The path.

    Raises:
        ConfigError: if ``kind`` or a code is malformed.
        DataError: if the scan is not DICOM, or the mask has a value that ``labels`` does not name.
        GeometryError: if the mask is not on the grid of the scan.
    """
    headers = source_headers(volume, "DICOM SEG")
    if kind not in KINDS:
        raise ConfigError(f"the DICOM SEG kind {kind!r} is not known; choose one of {', '.join(KINDS)}.")
    if mask.shape[-3:] != volume.shape or mask.ndim not in (3, 4):
        raise GeometryError(f"{path}: a mask of shape {mask.shape} does not fit {volume.source.name}, {volume.shape}.")
    names = _names(labels, mask, volume)
    described = [
        _describe(value, name, (codes or {}).get(str(value)), bundle, version) for value, name in names.items()
    ]
    options: dict[str, Any] = {
        "segmentation_type": kind.upper(),
        "fractional_type": "PROBABILITY" if mask.dtype.kind == "f" else "OCCUPANCY",
        "segment_descriptions": described,
        "manufacturer_model_name": bundle[:LONGEST_NAME],
        "software_versions": __version__,
        "device_serial_number": "0",
        "content_description": DISCLAIMER,
        "content_label": "SEGMENTATION",
        "series_description": f"Segmentation. {DISCLAIMER}",
        "transfer_syntax_uid": ExplicitVRLittleEndian if kind == "binary" else RLELossless,
        "omit_empty_frames": bool(mask.any()),
        **new_series(headers[0], "SEG"),
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # values of the source that break the standard are copied as they are
            segmentation = _segmentation(mask, volume, headers, options)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        reason = str(error.args[0] if error.args else type(error).__name__).splitlines()[0].rstrip(".")
        raise DataError(
            f"{volume.source.name}: DICOM SEG cannot refer to this scan ({reason}); choose the format nifti."
        ) from error
    target = Path(path)
    with atomic_path(target) as temporary:
        segmentation.save_as(temporary)
    return target


def _segmentation(
    mask: NDArray[Any], volume: Volume, headers: list[Dataset], options: Mapping[str, Any]
) -> hd.seg.Segmentation:
    """Give the SEG on the source planes or, where slices have no plane of their own, on the volume's grid."""
    planes = source_planes(volume)
    if planes is None:
        return _on_own_grid(mask, volume, headers, options)
    flat = _planes_of(mask) if on_grid(volume, planes) else to_planes(mask, volume, planes)
    sources = placed(headers, volume, planes)
    made = hd.seg.Segmentation(source_images=sources, pixel_array=_channels_last(flat), **options)
    if is_multi_frame(volume):
        _refer_to_frames(made, volume.source.frames)
    return made


def _on_own_grid(
    mask: NDArray[Any], volume: Volume, headers: list[Dataset], options: Mapping[str, Any]
) -> hd.seg.Segmentation:
    """Place the planes in the patient by themselves; a mosaic has no plane that they could share."""
    lps = LPS_TO_RAS @ volume.affine
    columns, rows, distance = volume.spacing
    cosines = (lps[:3, :2] / (columns, rows)).T
    own = SourcePlanes(lps[None, :3, 3], cosines, (rows, columns), distance, (volume.shape[1], volume.shape[0]))
    sources = placed(headers[:1], volume, own)
    positions = [lps[:3, 3] + k * lps[:3, 2] for k in range(volume.shape[2])]
    return hd.seg.Segmentation(
        source_images=sources,
        pixel_array=_channels_last(_planes_of(mask)),
        plane_positions=[hd.PlanePositionSequence("PATIENT", position.tolist()) for position in positions],
        plane_orientation=hd.PlaneOrientationSequence("PATIENT", cosines.ravel().tolist()),
        pixel_measures=hd.PixelMeasuresSequence((rows, columns), distance),
        **options,
    )


def _planes_of(mask: NDArray[Any]) -> NDArray[Any]:
    """Give (..., n, rows, columns) of (..., i, j, k)."""
    return mask.swapaxes(-3, -1)


def _channels_last(planes: NDArray[Any]) -> NDArray[Any]:
    """Give planes as highdicom takes them: (n, rows, columns) of whole numbers, or (n, rows, columns, segments)."""
    ordered = np.ascontiguousarray(np.moveaxis(planes, 0, -1) if planes.ndim == 4 else planes)
    if ordered.dtype.kind == "f":
        return ordered
    return ordered.astype(np.uint8 if ordered.max() < 256 else np.uint16)


def _refer_to_frames(segmentation: Dataset, frames: tuple[int, ...]) -> None:
    """Let the planes refer to the frames of the whole file, of which the volume may be a part."""
    items = {
        id(source): source  # planes of several segments share them
        for groups in segmentation.PerFrameFunctionalGroupsSequence
        for derivation in groups.get("DerivationImageSequence", ())
        for source in derivation.SourceImageSequence
    }
    for source in items.values():
        source.ReferencedFrameNumber = frames[int(source.ReferencedFrameNumber) - 1] + 1


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
    planes = source_planes(volume)
    if planes is None:
        return _by_place(segmentation, volume, path)
    labels = _by_source(segmentation, volume, path)
    return labels.T if on_grid(volume, planes) else from_planes(labels, volume, planes)


def _by_source(segmentation: Any, volume: Volume, path: str | os.PathLike[str]) -> NDArray[Any]:
    """Give the labels (n, rows, columns) of the source planes in slice order."""
    uids = [dataset.SOPInstanceUID for dataset in volume.source.datasets]
    options: dict[str, Any] = {
        "combine_segments": True,
        "ignore_spatial_locations": True,
        "assert_missing_frames_are_empty": True,
    }
    try:
        if is_multi_frame(volume):
            frames = [frame + 1 for frame in volume.source.frames]
            return segmentation.get_pixels_by_source_frame(uids[0], frames, **options)
        return segmentation.get_pixels_by_source_instance(uids, **options)
    except RuntimeError as error:
        raise DataError(f"{path}: its segments overlap, so they do not make a label map ({error}).") from error
    except (KeyError, ValueError) as error:
        reason = str(error).strip("'").splitlines()[0]
        raise GeometryError(f"{path}: does not lie on the slices of {volume.source.name} ({reason}).") from error


def _by_place(segmentation: Any, volume: Volume, path: str | os.PathLike[str]) -> NDArray[Any]:
    """Give the labels (i, j, k) of planes that lie on the grid of the volume."""
    inverse = np.linalg.inv(LPS_TO_RAS @ volume.affine)
    out = np.zeros(volume.shape, np.uint16)
    frames = segmentation.pixel_array.reshape(-1, *volume.shape[1::-1])
    for pixels, groups in zip(frames, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        index = inverse @ [*map(float, groups.PlanePositionSequence[0].ImagePositionPatient), 1.0]
        nearest = np.rint(index[:3]).astype(int)
        if np.abs(index[:3] - nearest).max() > 0.1 or nearest[:2].any() or not 0 <= nearest[2] < volume.shape[2]:
            raise GeometryError(f"{path}: does not lie on the slices of {volume.source.name}.")
        identification = groups.get("SegmentIdentificationSequence")
        values = pixels if identification is None else (pixels > 0) * int(identification[0].ReferencedSegmentNumber)
        out[:, :, nearest[2]] = np.maximum(out[:, :, nearest[2]], values.T)
    return out.astype(np.uint8) if out.max() < 256 else out


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


def _describe(value: int, name: str, code: Mapping[str, Any] | None, bundle: str, version: str) -> Any:
    code = code or {}
    return hd.seg.SegmentDescription(
        segment_number=value,
        segment_label=name[:LONGEST_NAME],
        segmented_property_category=coded(code.get("category", GENERIC_CODE), name),
        segmented_property_type=coded(code.get("type", GENERIC_CODE), name),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=bundle[:LONGEST_NAME],
            version=version or __version__,
            family=CodedConcept("123110", "DCM", "Artificial Intelligence"),
        ),
    )
