"""What a label map holds: voxels, millilitres and diameters of its structures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

_Place = tuple[float, int, tuple[slice, ...]]


def label_counts(labels: NDArray[Any]) -> dict[int, int]:
    """Count the voxels of every label above 0, in rising order of the labels.

    Args:
        labels: label map (i, j, k) of whole numbers.
    """
    total: dict[int, int] = {}
    for plane in np.moveaxis(labels, -1, 0):
        found, counts = np.unique(plane, return_counts=True)
        for label, count in zip(found.tolist(), counts.tolist(), strict=True):
            total[int(label)] = total.get(int(label), 0) + count
    return {label: total[label] for label in sorted(total) if label > 0}


def longest_axial_diameters(labels: NDArray[Any], spacing: tuple[float, float, float]) -> dict[int, float]:
    """Measure the longest distance in mm between two points of each structure in one slice along k.

    Points are the outer corners of voxels, so that one voxel measures its diagonal. Every slice is looked at unless the
    diagonal of the structure's box in it is shorter than what has been found.

    Args:
        labels: label map (i, j, k) of whole numbers in RAS+ order.
        spacing: voxel edge lengths, mm.

    Returns:
        The diameters by label, for labels above 0 that are there.
    """
    places: dict[int, list[_Place]] = {}
    for k, plane in enumerate(np.moveaxis(labels, -1, 0)):
        for label, box in enumerate(find_objects(np.ascontiguousarray(plane, dtype=np.int32)), 1):
            if box is not None:
                diagonal = np.hypot(*((side.stop - side.start) * mm for side, mm in zip(box, spacing, strict=False)))
                places.setdefault(label, []).append((float(diagonal), k, box))
    return {label: _longest(labels, label, places[label], spacing) for label in sorted(places)}


def longest_axial_diameter(labels: NDArray[Any], label: int, spacing: tuple[float, float, float]) -> float:
    """Give :func:`longest_axial_diameters` of one structure; 0 where it is not there."""
    return longest_axial_diameters(labels == label, spacing).get(1, 0.0)


def _longest(labels: NDArray[Any], label: int, places: list[_Place], spacing: tuple[float, float, float]) -> float:
    longest = 0.0
    for diagonal, k, box in sorted(places, key=lambda place: -place[0]):
        if diagonal <= longest:
            break
        longest = max(longest, _widest(_corners(labels[:, :, k][box] == label) * np.asarray(spacing[:2])))
    return longest


def _corners(here: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Give the corners of the first and last voxel of every row, which include all points of the hull."""
    rows = np.flatnonzero(here.any(axis=1))
    first = here[rows].argmax(axis=1)
    last = here.shape[1] - here[rows, ::-1].argmax(axis=1)
    corners = [np.stack([rows + step, ends], axis=1) for step in (0, 1) for ends in (first, last)]
    return np.concatenate(corners).astype(np.float64)


def _widest(points: NDArray[np.float64]) -> float:
    return float(pdist(points[ConvexHull(points).vertices]).max())
