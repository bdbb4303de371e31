"""Several images at one position (echoes, time points, b-values, phases): which of them form a volume together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydicom import DataElement
from pydicom.tag import Tag

from medresnet3d.io.dicom_geometry import same_place
from medresnet3d.io.dicom_slices import Slice
from medresnet3d.io.dicom_values import number, private_number, text

CONTRASTS = (
    *("ComplexImageComponent", "GERawDataType", "ImageType", "FrameType", "EchoNumbers", "EchoTime"),
    *("EffectiveEchoTime", "InversionTime", "InversionTimes", "DiffusionDirectionality"),
)
"""Tags of images that are no repetitions of each other; volumes are listed by their values first."""
REPETITIONS = (
    *("TemporalPositionIdentifier", "TemporalPositionIndex", "DiffusionBValue", "SiemensBValue", "GEBValue"),
    *("PhilipsBValue", "UIHBValue", "NominalCardiacTriggerDelayTime", "TriggerTime", "AcquisitionNumber"),
    *("FrameReferenceTime", "AcquisitionTime", "ContentTime", "SeriesTime", "FrameAcquisitionNumber"),
    *("FrameReferenceDateTime", "FrameAcquisitionDateTime"),
)
"""Tags of repetitions; volumes are listed in the order of their instance numbers."""
PRIVATE = {
    "GERawDataType": Tag(0x0043, 0x102F),
    "SiemensBValue": Tag(0x0019, 0x100C),
    "GEBValue": Tag(0x0043, 0x1039),
    "PhilipsBValue": Tag(0x2001, 0x1003),
    "UIHBValue": Tag(0x0065, 0x1009),
}
LEAST_SHARE = 0.5
"""A repetition with fewer of the positions than this share is incomplete, not a volume of its own."""


@dataclass
class Part:
    """Slices that form one volume.

    Args:
        slices: at different positions.
        what: what tells them from other parts, such as ``("EchoTime 5.0",)``.
    """

    slices: list[Slice]
    what: tuple[str, ...] = ()


@dataclass
class Split:
    """The volumes in a stack of slices, and what is part of none.

    Args:
        parts: one for each volume, in order.
        left: one sentence for each kind of image that was left out.
    """

    parts: list[Part]
    left: list[str] = field(default_factory=list)


def split_repeats(slices: Sequence[Slice]) -> Split:
    """Split parallel slices of equal size into volumes with one image at each position.

    A tag tells volumes apart if the images with most of its values cover all positions, or if the images with each of
    its values lie at different positions. Where no tag does, the images at a position are taken in the order of their
    instance numbers.

    Args:
        slices: all with position and orientation, or else they are left together.
    """
    if any(one.mosaic is not None for one in slices):
        ordered = sorted(slices, key=_turn)
        return Split([Part([one], _nth(index, len(ordered), "")) for index, one in enumerate(ordered)])
    if any(one.position is None or one.orientation is None for one in slices):
        return Split([Part(list(slices))])
    places = _places(slices)
    if np.bincount(places).max() == 1:
        return Split([Part(list(slices))])
    shared: dict[tuple[int, str], str] = {}
    values = [_Values(one, shared) for one in slices]
    return _split(list(range(len(slices))), places, values, list(CONTRASTS + REPETITIONS))


def _turn(one: Slice) -> tuple[float, str, int]:
    """Sort images at one position as they were taken."""
    return number(one.dataset, "InstanceNumber") or 0.0, text(one.dataset, "AcquisitionTime"), one.frame


def _made(one: Slice) -> tuple[float, str, int, str, str]:
    """Give what is equal for copies of an image, whatever UID an archive gave them."""
    return *_turn(one), text(one.dataset, "ContentTime"), text(one.dataset, "InstanceCreationTime")


class _Values:
    """Tags of one slice as text; functional groups of a multi-frame file come first.

    Args:
        one: the slice.
        shared: by file and tag, what was looked up for other slices of the same file.
    """

    def __init__(self, one: Slice, shared: dict[tuple[int, str], str]) -> None:
        self.slice = one
        self._shared = shared
        self._own: dict[str, str] = {}
        if one.functional is not None:
            for tag in list(one.functional.keys()):
                if not tag.is_private:
                    self._add(one.functional[tag])

    def _add(self, group: DataElement) -> None:
        if group.VR != "SQ" or not group.value:
            return
        for tag in _WANTED.keys() & group.value[0].keys():
            self._own[_WANTED[tag]] = text(group.value[0], _WANTED[tag])

    def __getitem__(self, tag: str) -> str:
        if tag in self._own:
            return self._own[tag]
        key = id(self.slice.dataset), tag
        if key not in self._shared:
            value = private_number(self.slice.dataset, PRIVATE[tag]) if tag in PRIVATE else None
            private = "" if value is None else f"{value:g}"
            self._shared[key] = private if tag in PRIVATE else text(self.slice.dataset, tag)
        return self._shared[key]


_WANTED = {Tag(keyword): keyword for keyword in CONTRASTS + REPETITIONS if keyword not in PRIVATE}


def _split(chosen: list[int], places: NDArray[np.intp], values: list[_Values], tags: list[str]) -> Split:
    """Split the chosen slices by the first of the tags that can, and the outcome by the others."""
    slices = [values[index].slice for index in chosen]
    counts = np.unique(places[chosen], return_counts=True)[1]
    if counts.max() == 1:
        return Split([Part(slices)])
    for position, tag in enumerate(tags):
        groups: dict[str, list[int]] = defaultdict(list)
        for index in chosen:
            groups[values[index][tag]].append(index)
        if len(groups) > 1 and _tells_apart(groups, places, len(counts), int(counts.max())):
            return _by_tag(tag, groups, places, values, tags[position + 1 :])
    return _by_instance_number(chosen, places, values)


def _tells_apart(groups: dict[str, list[int]], places: NDArray[np.intp], positions: int, most: int) -> bool:
    covered = [len(set(places[group])) for group in groups.values()]
    if sum(count == positions for count in covered) * 2 >= len(covered):
        return True
    return len(groups) == most and all(
        count == len(group) > 1 for count, group in zip(covered, groups.values(), strict=True)
    )


def _by_tag(
    tag: str, groups: dict[str, list[int]], places: NDArray[np.intp], values: list[_Values], tags: list[str]
) -> Split:
    full = max(len(set(places[group])) for group in groups.values())
    found = Split([])
    for value, group in sorted(groups.items(), key=lambda entry: _natural(entry[0])):
        covered = len(set(places[group]))
        if covered < LEAST_SHARE * full or (covered < full and len(groups) > 2 and tag in REPETITIONS):
            found.left.append(f"{_images(len(group))} set aside: a repetition with {covered} of {full} positions.")
            continue
        inner = _split(group, places, values, tags)
        found.parts += [Part(part.slices, (f"{tag} {value}".strip(), *part.what)) for part in inner.parts]
        found.left += inner.left
    if tag in REPETITIONS:
        found.parts.sort(key=lambda part: min(map(_turn, part.slices)))
    return found


def _by_instance_number(chosen: list[int], places: NDArray[np.intp], values: list[_Values]) -> Split:
    at: dict[int, list[Slice]] = defaultdict(list)
    for index in chosen:
        at[int(places[index])].append(values[index].slice)
    at = {place: sorted(members, key=_turn) for place, members in at.items()}
    told = []
    copies = sum(len(members) - len(set(map(_made, members))) for members in at.values())
    if copies and len({_made(values[index].slice) for index in chosen}) >= len(at):  # else the numbers tell nothing
        at = {place: _without_copies(members) for place, members in at.items()}
        told.append(f"{_images(copies)} set aside: others have the same instance number, position and time.")
    counts = sorted(len(members) for members in at.values())
    usual = counts[len(counts) // 2]
    complete = min(count for count in counts if count >= LEAST_SHARE * usual)
    kept = [members[:complete] for members in at.values() if len(members) >= complete]
    parts = [Part(list(volume), _nth(nth, complete)) for nth, volume in enumerate(zip(*kept, strict=True))]
    left = sum(counts) - complete * len(kept)
    if left:
        told.append(f"{_images(left)} set aside: not every position has as many images.")
    return Split(parts, told)


def _without_copies(members: Sequence[Slice]) -> list[Slice]:
    first = {_made(one): one for one in reversed(members)}
    return [first[made] for made in sorted(first)]


def _nth(index: int, count: int, where: str = " at each position") -> tuple[str, ...]:
    return (f"image {index + 1} of {count}{where}",) if count > 1 else ()


def _images(count: int) -> str:
    return "1 image was" if count == 1 else f"{count} images were"


def _places(slices: Sequence[Slice]) -> NDArray[np.intp]:
    """Number the places along the normal; what lies within the tolerance of its neighbour shares its number."""
    normal = np.cross(*slices[0].orientation)  # type: ignore[misc]
    along = np.array([one.position for one in slices]) @ normal
    order = np.argsort(along)
    places = np.empty(len(along), dtype=np.intp)
    places[order] = np.cumsum(np.diff(along[order], prepend=along[order[0]]) > same_place(slices, along))
    return places


def _natural(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return float("inf"), value
