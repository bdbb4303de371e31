"""Which DICOM files belong together: series and, within them, stacks that form one volume each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from medresnet3d.errors import GeometryError
from medresnet3d.io.dicom_geometry import COSINE_SPREAD, SAME_PLACE_MM, Stack, stack_slices
from medresnet3d.io.dicom_slices import Slice, number, slices_of, text

STRAY_FRACTION = 0.1
SINGLE = "a single image"
LOCALISER = "a localiser"
COLOUR = "a colour image"
SEGMENTATION = "a segmentation, not a scan"
MOSAIC = "a Siemens mosaic, which dcm2niix can convert"
DISTINGUISHING_TAGS = (
    *("TemporalPositionIdentifier", "EchoNumbers", "EchoTime", "InversionTime", "DiffusionBValue", "TriggerTime"),
    *("AcquisitionNumber", "ImageType", "FrameReferenceTime", "AcquisitionTime", "ContentTime", "SeriesTime"),
)


@dataclass(frozen=True, eq=False)
class SeriesInfo:
    """One volume, or one image that is none, found among DICOM files.

    Args:
        id: short name by which ``--series`` chooses it: the SeriesNumber where it is unique, else a running number,
            with ``.1``, ``.2`` ... where one series holds several volumes.
        uid: SeriesInstanceUID.
        description: SeriesDescription, with what tells several volumes of one series apart.
        modality: such as ``"CT"``; empty if not given.
        shape: (columns, rows, slices).
        volumetric: whether it can be meant when a scan is asked for: not a localiser, not colour, two slices or more.
        note: why it is not volumetric; empty if it is.
        set_aside: what was found in the series but is not part of the volume, one sentence each.
        slices: the image planes, in order if the geometry is sound.
    """

    id: str
    uid: str
    description: str
    modality: str
    shape: tuple[int, int, int]
    volumetric: bool
    note: str
    set_aside: tuple[str, ...] = ()
    slices: tuple[Slice, ...] = field(default=(), repr=False)

    @property
    def spacing(self) -> tuple[float, float, float] | None:
        """Voxel size in millimetres along columns, rows and slices; ``None`` where the geometry is not sound."""
        try:
            affine = self.stack("").affine
        except GeometryError:
            return None
        i, j, k = np.linalg.norm(affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def fault(self) -> str:
        """Why the slices form no volume, e.g. that some are missing; empty if the geometry is sound."""
        try:
            self.stack("")
        except GeometryError as error:
            return str(error).removeprefix(": ")
        return ""

    def stack(self, name: str) -> Stack:
        """Sort the slices and judge their geometry.

        Raises:
            GeometryError: as :func:`medresnet3d.io.dicom_geometry.stack_slices` does.
        """
        return stack_slices(self.slices, name)

    def __str__(self) -> str:
        """One line for a list: id, description, modality, size, spacing and what is special."""
        spacing, fault = self.spacing, self.fault if self.volumetric else ""
        millimetres = "" if spacing is None else f", {spacing[0]:.4g} x {spacing[1]:.4g} x {spacing[2]:.4g} mm"
        columns, rows, slices = self.shape
        note = f" ({self.note or fault.split(';')[0]})" if self.note or fault else ""
        size = f"{slices} slice{'' if slices == 1 else 's'} of {columns} x {rows}"
        return f"{self.id}: {self.description or 'no description'}, {self.modality or '?'}, {size}{millimetres}{note}"


def find_series(headers: Iterable[tuple[Path, Dataset]]) -> list[SeriesInfo]:
    """Sort image headers into series, and these into volumes.

    Args:
        headers: as :func:`medresnet3d.io.dicom_slices.read_headers` yields them.

    Returns:
        One entry a volume or left-over image, in order of SeriesNumber.
    """
    by_uid: dict[str, list[tuple[Path, Dataset]]] = defaultdict(list)
    for path, dataset in headers:
        by_uid[text(dataset, "SeriesInstanceUID", "none")].append((path, dataset))
    every = sorted(by_uid.items(), key=lambda entry: (number(entry[1][0][1], "SeriesNumber") or 0, entry[0]))
    names = [text(instances[0][1], "SeriesNumber") for _, instances in every]
    unique = all(names) and len(set(names)) == len(names)
    found: list[SeriesInfo] = []
    for running, ((uid, instances), name) in enumerate(zip(every, names, strict=True), start=1):
        found += _volumes(uid, name if unique else str(running), instances)
    return found


def _volumes(uid: str, name: str, instances: Sequence[tuple[Path, Dataset]]) -> list[SeriesInfo]:
    """Split one series into volumes; what is no part of any is told in ``set_aside`` of the first."""
    distinct = {text(dataset, "SOPInstanceUID", str(path)): (path, dataset) for path, dataset in reversed(instances)}
    told = []
    if len(distinct) < len(instances):
        told.append(_copies(len(instances) - len(distinct)))
    planes = [one for path, dataset in reversed(distinct.values()) for one in slices_of(path, dataset)]
    infos = [_info(uid, slices) for slices in _parallel(planes)]
    largest = max((len(info.slices) for info in infos if info.volumetric), default=0)
    kept = [info for info in infos if info.volumetric and len(info.slices) > STRAY_FRACTION * largest]
    kept = [part for info in kept for part in _split_repeats(info)]
    if not kept:
        return _numbered(name, infos)
    stray = [info for info in infos if not (info.volumetric and len(info.slices) > STRAY_FRACTION * largest)]
    for info in stray:
        what = "of another size or orientation" if info.note in ("", SINGLE) else info.note
        count = len(info.slices)
        told.append(f"{count} image{' of the series was' if count == 1 else 's of the series were'} set aside: {what}.")
    return _numbered(name, [replace(info, set_aside=tuple(told)) for info in kept])


def _copies(count: int) -> str:
    what = "1 file is a copy of another" if count == 1 else f"{count} files are copies of others"
    return f"{what} (same SOPInstanceUID) and {'was' if count == 1 else 'were'} skipped."


def _numbered(name: str, infos: Sequence[SeriesInfo]) -> list[SeriesInfo]:
    if len(infos) == 1:
        return [replace(infos[0], id=name)]
    return [replace(info, id=f"{name}.{part}") for part, info in enumerate(infos, start=1)]


def _parallel(planes: Sequence[Slice]) -> list[list[Slice]]:
    """Group image planes of equal size and kind that lie parallel to each other."""
    stacks: list[tuple[Hashable, list[Slice]]] = []
    for one in planes:
        key = (
            *(text(one.dataset, tag) for tag in ("Rows", "Columns", "SamplesPerPixel", "Modality")),
            _image_kind(one),
        )
        for other, members in stacks:
            if key == other and _same_orientation(one, members[0]):
                members.append(one)
                break
        else:
            stacks.append((key, [one]))
    return [members for _, members in stacks]


def _same_orientation(one: Slice, other: Slice) -> bool:
    if one.orientation is None or other.orientation is None:
        return one.orientation is other.orientation
    return bool(np.abs(one.orientation - other.orientation).max() < COSINE_SPREAD)


def _image_kind(one: Slice) -> str:
    """Why an image is no slice of a volume, or an empty text."""
    image_type = text(one.dataset, "ImageType").upper()
    modality = text(one.dataset, "Modality").upper()
    if "LOCALIZER" in image_type:
        return LOCALISER
    if (number(one.dataset, "SamplesPerPixel") or 1) > 1:
        return COLOUR
    if modality == "SEG":
        return SEGMENTATION
    if "MOSAIC" in image_type:
        return MOSAIC
    return ""


def _info(uid: str, slices: Sequence[Slice]) -> SeriesInfo:
    first = slices[0].dataset
    note = _image_kind(slices[0])
    if not note and len(slices) == 1:
        note = SINGLE
    return SeriesInfo(
        id="",
        uid=uid,
        description=text(first, "SeriesDescription"),
        modality=text(first, "Modality"),
        shape=(int(number(first, "Columns") or 0), int(number(first, "Rows") or 0), len(slices)),
        volumetric=not note,
        note=note,
        slices=tuple(slices),
    )


def _split_repeats(info: SeriesInfo) -> list[SeriesInfo]:
    """Split a stack that has several images at each position (echoes, time points) into one volume each."""
    if any(one.position is None or one.orientation is None for one in info.slices):
        return [info]
    normal = np.cross(*info.slices[0].orientation)  # type: ignore[misc]
    places = _places(np.array([one.position for one in info.slices]) @ normal)
    counts = np.unique(places, return_counts=True)[1]
    if counts.max() == 1 or len(counts) == 1:
        return [info]
    for tag in DISTINGUISHING_TAGS:
        groups: dict[str, list[int]] = defaultdict(list)
        for index, one in enumerate(info.slices):
            groups[_frame_text(one, tag)].append(index)
        if len(groups) == counts.max() and all(len(set(places[part])) == len(part) for part in groups.values()):
            parts = sorted(groups.items(), key=lambda entry: _natural(entry[0]))
            return [_part(info, part, f"{tag} {value}") for value, part in parts]
    if counts.min() == counts.max():
        return _by_instance_number(info, places, int(counts[0]))
    return [info]


def _places(along: NDArray[np.float64]) -> NDArray[np.int_]:
    """Number the places along the normal; what lies within the tolerance of its neighbour shares its number."""
    order = np.argsort(along)
    places = np.empty(len(along), dtype=int)
    places[order] = np.cumsum(np.diff(along[order], prepend=along[order[0]]) > SAME_PLACE_MM)
    return places


def _by_instance_number(info: SeriesInfo, places: NDArray[np.int_], repeats: int) -> list[SeriesInfo]:
    key: Callable[[int], tuple[int, float]] = lambda index: (  # noqa: E731
        int(places[index]),
        number(info.slices[index].dataset, "InstanceNumber") or info.slices[index].frame,
    )
    order = sorted(range(len(info.slices)), key=key)
    return [_part(info, order[start::repeats], f"image {start + 1} at each position") for start in range(repeats)]


def _part(info: SeriesInfo, part: Sequence[int], what: str) -> SeriesInfo:
    columns, rows, _ = info.shape
    description = f"{info.description} [{what}]".strip()
    slices = tuple(info.slices[index] for index in part)
    return replace(info, description=description, shape=(columns, rows, len(part)), slices=slices)


def _frame_text(one: Slice, tag: str) -> str:
    """Give a tag of a slice as text, looking into the functional groups of a multi-frame file first."""
    for element in one.functional or Dataset():
        if element.VR == "SQ" and element.value and tag in element.value[0]:
            return text(element.value[0], tag)
    return text(one.dataset, tag)


def _natural(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return float("inf"), value
