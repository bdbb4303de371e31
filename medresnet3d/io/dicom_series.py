"""Which DICOM files belong together: series and, within them, stacks that form one volume each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.uid import MRSpectroscopyStorage

from medresnet3d.errors import GeometryError
from medresnet3d.io.dicom_geometry import COSINE_SPREAD, Stack, stack_slices
from medresnet3d.io.dicom_mosaic import is_mosaic
from medresnet3d.io.dicom_repeats import Part, Split, split_repeats
from medresnet3d.io.dicom_slices import Slice, slices_of
from medresnet3d.io.dicom_values import number, text

STRAY_FRACTION = 0.1
SINGLE = "a single image"
LOCALISER = "a localiser"
COLOUR = "a colour image"
SEGMENTATION = "a segmentation, not a scan"
SPECTRUM = "a spectrum, not an image"
MOSAIC = "a mosaic that does not say how it is divided into slices"
UNREADABLE = (COLOUR, SEGMENTATION, SPECTRUM, MOSAIC)


@dataclass(frozen=True, eq=False)
class SeriesInfo:
    """One volume, or one image that is none, found among DICOM files.

    Args:
        id: short name by which ``--series`` chooses it: the SeriesNumber where it is unique, else a running number,
            with ``.1``, ``.2`` ... where one series holds several volumes.
        uid: SeriesInstanceUID.
        description: SeriesDescription, with what tells several volumes of one series apart.
        modality: such as ``"CT"``; empty if not given.
        shape: (columns, rows, slices) of the images; loading may change it where it has to resample.
        volumetric: whether it can be meant when a scan is asked for: not a localiser, not colour, two slices or more.
        note: why it is not volumetric; empty if it is.
        set_aside: what was found in the series but is not part of the volume, one sentence each.
        slices: the image planes, in any order.
        left_out: those sentences of ``set_aside`` that tell of slices of this or another volume that had no place:
            doubles and incomplete repetitions. Strict loading refuses them.
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
    left_out: tuple[str, ...] = ()

    @property
    def readable(self) -> bool:
        """Whether it is a grey image that can be loaded, be it only a single one or a localiser."""
        return self.note not in UNREADABLE

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
        """Why the slices form no volume; empty if they do."""
        try:
            self.stack("")
        except GeometryError as error:
            return str(error).removeprefix(": ")
        return ""

    @property
    def repairs(self) -> tuple[str, ...]:
        """What loading repairs or assumes about the geometry, one sentence each; strict loading refuses some of it."""
        try:
            return self.stack("").warnings
        except GeometryError:
            return ()

    def stack(self, name: str, *, strict: bool = False) -> Stack:
        """Sort the slices and judge their geometry.

        Raises:
            GeometryError: as :func:`medresnet3d.io.dicom_geometry.stack_slices` does; with ``strict`` also if images
                had to be left out.
        """
        if strict and self.left_out:
            raise GeometryError(f"{name}: {self.left_out[0]} Load without strict to go on without them.")
        return stack_slices(self.slices, name, strict=strict)

    def __str__(self) -> str:
        """One line for a list: id, description, modality, size, spacing and what is special."""
        spacing = self.spacing
        special = [self.note or (self.fault if self.volumetric else ""), *(self.repairs if self.volumetric else ())]
        millimetres = "" if spacing is None else f", {spacing[0]:.4g} x {spacing[1]:.4g} x {spacing[2]:.4g} mm"
        columns, rows, slices = self.shape
        note = "".join(f" ({one.split(';')[0].rstrip('.')})" for one in special if one)
        size = f"{slices} slice{'' if slices == 1 else 's'} of {columns} x {rows}"
        return f"{self.id}: {self.description or 'no description'}, {self.modality or '?'}, {size}{millimetres}{note}"


def find_series(headers: Iterable[tuple[Path, Dataset]]) -> list[SeriesInfo]:
    """Sort image headers into series, and these into volumes.

    Args:
        headers: as :func:`medresnet3d.io.dicom_headers.read_headers` yields them.

    Returns:
        One entry a volume or left-over image, in order of SeriesNumber.
    """
    by_uid: dict[tuple[str, str], list[tuple[Path, Dataset]]] = defaultdict(list)
    for path, dataset in headers:
        by_uid[text(dataset, "SeriesInstanceUID", "none"), text(dataset, "SeriesNumber")].append((path, dataset))
    every = sorted(by_uid.items(), key=lambda entry: (number(entry[1][0][1], "SeriesNumber") or 0, entry[0]))
    names = [name for (_, name), _ in every]
    unique = all(names) and len(set(names)) == len(names)
    found: list[SeriesInfo] = []
    for running, ((uid, name), instances) in enumerate(every, start=1):
        found += _volumes(uid, name if unique else str(running), instances)
    return found


def _volumes(uid: str, name: str, instances: Sequence[tuple[Path, Dataset]]) -> list[SeriesInfo]:
    """Split one series into volumes; what is no part of any is told in ``set_aside`` of each."""
    distinct = {_identity(path, dataset): (path, dataset) for path, dataset in reversed(instances)}
    told = []
    if len(distinct) < len(instances):
        told.append(_copies(len(instances) - len(distinct)))
    stacks = _parallel([one for path, dataset in reversed(distinct.values()) for one in slices_of(path, dataset)])
    largest = max((len(stack) for stack in stacks if not _image_kind(stack[0])), default=0)
    volumes: list[SeriesInfo] = []
    others: list[SeriesInfo] = []
    for stack in stacks:
        infos = _infos(uid, stack)
        if any(info.volumetric for info in infos) and len(stack) > STRAY_FRACTION * largest:
            volumes += infos
        else:
            others += infos
    if not volumes:
        return _numbered(name, [replace(info, set_aside=(*told, *info.set_aside)) for info in others])
    told += _strays(others)
    return _numbered(name, [replace(info, set_aside=(*told, *info.set_aside)) for info in volumes])


def _identity(path: Path, dataset: Dataset) -> tuple[str, ...]:
    """Tell copies of a file from others; anonymised files may all have one SOPInstanceUID."""
    uid = text(dataset, "SOPInstanceUID", str(path))
    return uid, text(dataset, "InstanceNumber"), text(dataset, "ImagePositionPatient")


def _copies(count: int) -> str:
    what = "1 file is a copy of another" if count == 1 else f"{count} files are copies of others"
    return f"{what} (same SOPInstanceUID) and {'was' if count == 1 else 'were'} skipped."


def _strays(infos: Sequence[SeriesInfo]) -> list[str]:
    counts: dict[str, int] = defaultdict(int)
    for info in infos:
        what = "of another size or orientation" if info.note in ("", SINGLE) else info.note
        counts[what] += len(info.slices)
    return [
        f"{count} image{' of the series was' if count == 1 else 's of the series were'} set aside: {what}."
        for what, count in counts.items()
    ]


def _numbered(name: str, infos: Sequence[SeriesInfo]) -> list[SeriesInfo]:
    if len(infos) == 1:
        return [replace(infos[0], id=name)]
    return [replace(info, id=f"{name}.{part}") for part, info in enumerate(infos, start=1)]


def _parallel(planes: Sequence[Slice]) -> list[list[Slice]]:
    """Group image planes of equal size and kind that lie parallel to each other."""
    stacks: dict[Hashable, list[list[Slice]]] = defaultdict(list)
    keys: dict[int, Hashable] = {}
    ids = {_stack_id(one) for one in planes}
    several = 1 < len(ids) <= len(planes) / 2
    for one in planes:
        dataset = one.dataset
        if id(dataset) not in keys:
            tags = ("Rows", "Columns", "SamplesPerPixel", "Modality")
            keys[id(dataset)] = (*(text(dataset, tag) for tag in tags), _image_kind(one))
        alike = stacks[keys[id(dataset)], _stack_id(one) if several else ""]
        for members in alike:
            if _same_orientation(one, members[0]):
                members.append(one)
                break
        else:
            alike.append([one])
    return [members for alike in stacks.values() for members in alike]


def _stack_id(one: Slice) -> str:
    content = one.functional.get("FrameContentSequence") if one.functional is not None else None
    return text(content[0], "StackID") if content else ""


def _same_orientation(one: Slice, other: Slice) -> bool:
    if one.orientation is None or other.orientation is None:
        return one.orientation is other.orientation
    return bool(np.abs(one.orientation - other.orientation).max() < COSINE_SPREAD)


def _image_kind(one: Slice) -> str:
    """Why an image is no slice of a volume, or an empty text."""
    image_type = text(one.dataset, "ImageType").upper()
    if "LOCALIZER" in image_type:
        return LOCALISER
    if (number(one.dataset, "SamplesPerPixel") or 1) > 1:
        return COLOUR
    if text(one.dataset, "Modality").upper() == "SEG":
        return SEGMENTATION
    if text(one.dataset, "SOPClassUID") == MRSpectroscopyStorage:
        return SPECTRUM
    if one.mosaic is None and is_mosaic(one.dataset):
        return MOSAIC
    return ""


def _infos(uid: str, stack: Sequence[Slice]) -> list[SeriesInfo]:
    """Give the volumes in a stack of parallel images."""
    kind = _image_kind(stack[0])
    split = Split([Part(list(stack))]) if kind in UNREADABLE else split_repeats(stack)
    first = stack[0].dataset
    columns, rows = int(number(first, "Columns") or 0), int(number(first, "Rows") or 0)
    infos = []
    for part in split.parts:
        mosaic = part.slices[0].mosaic
        shape = (columns, rows, len(part.slices))
        if mosaic is not None:
            shape = (columns // mosaic.across, rows // mosaic.down, mosaic.tiles)
        note = kind or (SINGLE if shape[2] == 1 else "")
        what = f" [{', '.join(part.what)}]" if part.what else ""
        infos.append(
            SeriesInfo(
                id="",
                uid=uid,
                description=f"{text(first, 'SeriesDescription')}{what}".strip(),
                modality=text(first, "Modality"),
                shape=shape,
                volumetric=not note,
                note=note,
                set_aside=tuple(split.left),
                slices=tuple(part.slices),
                left_out=tuple(split.left),
            )
        )
    return infos
