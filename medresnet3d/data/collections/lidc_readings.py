"""The readings of LIDC-IDRI: XML files of up to four readers, their outlines as voxels, and nodules from both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from medresnet3d.data.preparation.series import ScanGrid
from medresnet3d.errors import DataError

CT_READING = "lidcreadmessage"
RATINGS = {
    "subtlety": 5,
    "internalStructure": 4,
    "calcification": 6,
    "sphericity": 5,
    "margin": 5,
    "lobulation": 5,
    "spiculation": 5,
    "texture": 5,
    "malignancy": 5,
}
"""Characteristics that readers rate, from 1 to this."""

AGREEMENT = 0.5
"""Share of a nodule's readers that a voxel of the consensus needs."""


@dataclass(frozen=True, eq=False)
class Contour:
    """One outline in one slice.

    Args:
        image: SOPInstanceUID of the slice.
        z: position of the slice, mm, LPS+.
        inside: whether it encloses nodule; a hole otherwise.
        points: (n, 2) columns and rows of the first pixels outside of the nodule.
    """

    image: str
    z: float
    inside: bool
    points: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Annotation:
    """What one reader says about one nodule of at least 3 mm.

    Args:
        reader: number of the reading session, from 0; the readers are anonymous.
        ratings: by characteristic; may be incomplete.
        contours: in any order.
    """

    reader: int
    ratings: dict[str, int]
    contours: tuple[Contour, ...]


@dataclass(frozen=True, eq=False)
class Reading:
    """One XML file.

    Args:
        series: SeriesInstanceUID of the CT.
        annotations: of all readers.
        small: marks of nodules below 3 mm.
    """

    series: str
    annotations: tuple[Annotation, ...]
    small: int


@dataclass(frozen=True, eq=False)
class Part:
    """Voxels in a box of a scan.

    Args:
        origin: (3,) first voxel of the box.
        mask: (i, j, k) bool.
    """

    origin: NDArray[np.int64]
    mask: NDArray[np.bool_]

    @property
    def centre(self) -> NDArray[np.float64]:
        """Mean voxel (3,)."""
        return np.argwhere(self.mask).mean(axis=0) + self.origin

    def corners(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First voxel (3,) and the one behind the last of what is marked."""
        marked = np.argwhere(self.mask) + self.origin
        return marked.min(axis=0), marked.max(axis=0) + 1


def read_reading(path: Path) -> Reading | None:
    """Read one XML file; names of elements are compared without namespace and case, since both vary.

    Returns:
        the reading, or ``None`` if it is not one of a CT (chest radiographs were read too).

    Raises:
        DataError: if the file is no XML, or its header names no series.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError, ValueError) as error:
        raise DataError(f"{path}: is not readable as XML ({error}); get it again.") from error
    if _name(root) != CT_READING:
        return None
    header = next(_children(root, "ResponseHeader"), root)
    series = _text(header, "SeriesInstanceUid")
    if not series:
        raise DataError(f"{path}: names no SeriesInstanceUid in its header; get it again.")
    annotations, small = [], 0
    for reader, session in enumerate(_children(root, "readingSession")):
        for nodule in _children(session, "unblindedReadNodule"):
            annotation = _annotation(nodule, reader)
            if max((len(contour.points) for contour in annotation.contours), default=0) > 1:
                annotations.append(annotation)
            else:
                small += 1
    return Reading(series, tuple(annotations), small)


def _annotation(nodule: ElementTree.Element, reader: int) -> Annotation:
    ratings = {}
    for characteristics in _children(nodule, "characteristics"):
        for name, highest in RATINGS.items():
            value = _text(characteristics, name)
            if value.isdecimal() and 1 <= int(value) <= highest:
                ratings[name] = int(value)
    contours = []
    for roi in _children(nodule, "roi"):
        pairs = [(_text(edge, "xCoord"), _text(edge, "yCoord")) for edge in _children(roi, "edgeMap")]
        points = np.array([[float(x), float(y)] for x, y in pairs if x and y]).reshape(-1, 2).astype(np.int64)
        inside = _text(roi, "inclusion").upper() != "FALSE"
        contours.append(
            Contour(_text(roi, "imageSOP_UID"), float(_text(roi, "imageZposition") or "nan"), inside, points)
        )
    return Annotation(reader, ratings, tuple(contours))


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2].casefold()


def _children(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (child for child in element if _name(child) == name.casefold())


def _text(element: ElementTree.Element, name: str) -> str:
    child = next(_children(element, name), None)
    return (child.text or "").strip() if child is not None else ""


def annotation_voxels(annotation: Annotation, grid: ScanGrid) -> Part | None:
    """The voxels that an annotation encloses.

    The outlines run through the first pixels outside of the nodule, so that they themselves are left out; holes are
    taken out with their outlines, which by the same rule are not nodule.

    Returns:
        the voxels, or ``None`` if none are left in the scan.
    """
    placed = [
        (contour, grid.first_voxel(contour.image, contour.z)) for contour in annotation.contours if len(contour.points)
    ]
    there = [(contour, first) for contour, first in placed if first is not None]
    if not there:
        return None
    points = np.concatenate(
        [np.column_stack([one.points + at[:2], np.full(len(one.points), at[2])]) for one, at in there]
    )
    low, high = points.min(axis=0), points.max(axis=0) + 1
    mask = np.zeros(high - low, bool)
    for contour, first in sorted(there, key=lambda pair: not pair[0].inside):
        filled, edge = _filled(contour.points + first[:2] - low[:2], mask.shape[:2])
        if contour.inside:
            mask[:, :, first[2] - low[2]] |= filled & ~edge
        else:
            mask[:, :, first[2] - low[2]] &= ~(filled | edge)
    start, end = np.maximum(low, 0), np.minimum(high, grid.shape)
    if (start >= end).any():
        return None
    mask = mask[tuple(slice(a, b) for a, b in zip(start - low, end - low, strict=True))]
    return Part(start, mask) if mask.any() else None


def _filled(points: NDArray[np.int64], shape: Sequence[int]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """What an outline (n, 2) of (i, j) encloses with its edge, and the edge, as maps of ``shape``."""
    from skimage.draw import polygon, polygon_perimeter

    filled, edge = np.zeros(shape, bool), np.zeros(shape, bool)
    edge[points[:, 0], points[:, 1]] = True
    if len(points) > 2:
        edge[polygon_perimeter(points[:, 0], points[:, 1], shape)] = True
        filled[polygon(points[:, 0], points[:, 1], shape)] = True
    return filled, edge


def cluster(parts: Sequence[Part], readers: Sequence[int], spacing: NDArray[np.float64]) -> list[list[int]]:
    """Sort annotations into physical nodules, since readers number theirs each by themselves.

    Two annotations of different readers belong together if they overlap, or if their centres are nearer than the larger
    of their radii (those of balls of the same volume). The nearest are joined first, and never two of one reader, so
    that a nodule has at most one annotation of each.

    Args:
        parts: voxels of each annotation.
        readers: who made it.
        spacing: voxel size, mm.

    Returns:
        the numbers of the annotations of each nodule, in order.
    """
    centres = [part.centre * spacing for part in parts]
    radii = [np.cbrt(3 * part.mask.sum() * np.prod(spacing) / (4 * np.pi)) for part in parts]
    near = []
    for one, other in combinations(range(len(parts)), 2):
        distance = float(np.linalg.norm(centres[one] - centres[other]))
        if distance < max(radii[one], radii[other]) or _overlap(parts[one], parts[other]):
            near.append((distance, one, other))
    nodule = list(range(len(parts)))
    members = {index: [index] for index in nodule}
    for _, one, other in sorted(near):
        first, second = sorted((nodule[one], nodule[other]))
        seen = {readers[index] for index in members[first]} & {readers[index] for index in members[second]}
        if first != second and not seen:
            members[first] += members.pop(second)
            for index in members[first]:
                nodule[index] = first
    return [sorted(indices) for _, indices in sorted(members.items())]


def _overlap(one: Part, other: Part) -> bool:
    low = np.maximum(one.origin, other.origin)
    high = np.minimum(one.origin + one.mask.shape, other.origin + other.mask.shape)
    if (low >= high).any():
        return False
    views = [
        part.mask[tuple(slice(a, b) for a, b in zip(low - part.origin, high - part.origin, strict=True))]
        for part in (one, other)
    ]
    return bool((views[0] & views[1]).any())


def consensus(parts: Sequence[Part]) -> Part:
    """The voxels that at least half of the readers of a nodule enclose; all that any encloses where these are none."""
    low = np.min([part.origin for part in parts], axis=0)
    high = np.max([part.origin + part.mask.shape for part in parts], axis=0)
    votes = np.zeros(high - low, np.int64)
    for part in parts:
        votes[tuple(slice(a, a + n) for a, n in zip(part.origin - low, part.mask.shape, strict=True))] += part.mask
    agreed = votes >= AGREEMENT * len(parts)
    return Part(low, agreed if agreed.any() else votes > 0)
