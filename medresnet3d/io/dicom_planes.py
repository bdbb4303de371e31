"""Where the source planes of a DICOM volume lie, and label maps taken to them from the volume's grid and back.

The grid of a volume is that of its source planes, unless the planes were sheared (gantry tilt) or irregular and the
volume was resampled. A DICOM object refers to source planes, so a label map on a resampled grid is first taken to them,
each of their pixels getting the label of the nearest voxel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medresnet3d.io.dicom_slices import Slice, slices_of
from medresnet3d.io.dicom_values import number
from medresnet3d.io.volume import LPS_TO_RAS, Volume

_PERPENDICULAR = 1e-4


@dataclass(frozen=True, eq=False)
class SourcePlanes:
    """The image planes that a volume was read from.

    Args:
        positions: centres of their first pixels, (n, 3), LPS mm.
        cosines: direction of a row and of a column, (2, 3).
        spacing: mm between rows and between columns.
        thickness: of a slice, mm.
        size: rows and columns.
    """

    positions: NDArray[np.float64]
    cosines: NDArray[np.float64]
    spacing: tuple[float, float]
    thickness: float
    size: tuple[int, int]


def is_multi_frame(volume: Volume) -> bool:
    """Tell whether the planes of a volume are frames of one DICOM file, to be referred to by number."""
    header = volume.source.datasets[0]
    return bool(volume.source.frames) and ("NumberOfFrames" in header or "PerFrameFunctionalGroupsSequence" in header)


def source_planes(volume: Volume) -> SourcePlanes | None:
    """Give the planes that the volume was read from, or ``None`` where its slices are no planes of their own (mosaics).

    What a header lacks (the position of a single image, the positions in an old multi-frame file) is taken from the
    volume's own grid.
    """
    datasets, frames = volume.source.datasets, volume.source.frames
    planes = _slices(volume)
    count = len(frames) if frames else len(datasets)
    size = (int(number(datasets[0], "Rows") or 0), int(number(datasets[0], "Columns") or 0))
    if len(planes) != count or (count == 1 < volume.shape[2]):
        return None
    first = planes[0]
    if any(one.position is None or one.orientation is None or one.pixel_spacing is None for one in planes):
        return _from_grid(volume) if (count, *size) == volume.shape[::-1] else None
    positions = np.array([one.position for one in planes])
    thickness = number(datasets[0], "SliceThickness") or first.thickness or volume.spacing[2]
    assert first.orientation is not None and first.pixel_spacing is not None
    return SourcePlanes(positions, _perpendicular(first.orientation), first.pixel_spacing, float(thickness), size)


def on_grid(volume: Volume, planes: SourcePlanes) -> bool:
    """Tell whether every voxel of the volume is a pixel of its source planes, in order."""
    if (len(planes.positions), *planes.size) != volume.shape[::-1]:
        return False
    if not volume.source.regridded:
        return True
    own = _indices(volume, planes.positions)
    own[:, 2] -= np.arange(len(own))
    return bool(np.abs(own).max() < 0.5)


def to_planes(mask: NDArray[Any], volume: Volume, planes: SourcePlanes) -> NDArray[Any]:
    """Take a label map from a volume's grid to its source planes; what lies outside of the grid is 0.

    Args:
        mask: (..., i, j, k) on the grid of ``volume``; axes in front, such as classes, are kept.
        volume: the scan.
        planes: those that it was read from.

    Returns:
        (..., n, rows, columns), each pixel with the value of the nearest voxel.
    """
    rows, columns = planes.size
    in_plane = _in_plane(planes)
    out = np.zeros((*mask.shape[:-3], len(planes.positions), rows, columns), mask.dtype)
    for index, position in enumerate(planes.positions):
        nearest = np.rint(_indices(volume, position + in_plane)).astype(np.intp)
        inside = ((nearest >= 0) & (nearest < volume.shape)).all(axis=-1)
        i, j, k = nearest[inside].T
        out[..., index, inside] = mask[..., i, j, k]
    return out


def from_planes(labels: NDArray[Any], volume: Volume, planes: SourcePlanes) -> NDArray[Any]:
    """Take labels from the source planes to a volume's grid; each voxel gets the nearest pixel of the nearest plane.

    Args:
        labels: (n, rows, columns), in the order of ``planes``.
        volume: the scan.
        planes: those that it was read from.

    Returns:
        (i, j, k) on the grid of ``volume``; 0 outside of the planes.
    """
    normal = np.cross(planes.cosines[0], planes.cosines[1])
    along = planes.positions @ normal
    order = np.argsort(along)
    middles = (along[order][1:] + along[order][:-1]) / 2
    grid = np.stack(np.meshgrid(*(np.arange(size) for size in volume.shape[:2]), indexing="ij"), axis=-1)
    lps = LPS_TO_RAS @ volume.affine
    out = np.zeros(volume.shape, labels.dtype)
    for k in range(volume.shape[2]):
        points = grid @ lps[:3, :2].T + (lps[:3, 2] * k + lps[:3, 3])
        plane = order[np.searchsorted(middles, points @ normal)]
        offset = (points - planes.positions[plane]) @ planes.cosines.T
        column, row = np.rint(offset / planes.spacing[::-1]).astype(np.intp).transpose(2, 0, 1)
        inside = (row >= 0) & (row < planes.size[0]) & (column >= 0) & (column < planes.size[1])
        out[inside, k] = labels[plane[inside], row[inside], column[inside]]
    return out


def _slices(volume: Volume) -> list[Slice]:
    """Give the source planes of a volume in slice order; fewer than it has slices where tiles share one plane."""
    files, datasets, frames = volume.source.files, volume.source.datasets, volume.source.frames
    if not frames:
        return [slices_of(files[0], dataset)[0] for dataset in datasets]
    every = slices_of(files[0], datasets[0])
    return [every[frame] for frame in frames if frame < len(every)]


def _from_grid(volume: Volume) -> SourcePlanes:
    lps = LPS_TO_RAS @ volume.affine
    steps = np.arange(volume.shape[2])[:, None] * lps[:3, 2]
    columns, rows, thickness = volume.spacing
    cosines = (lps[:3, :2] / (columns, rows)).T
    return SourcePlanes(lps[:3, 3] + steps, cosines, (rows, columns), thickness, (volume.shape[1], volume.shape[0]))


def _perpendicular(cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the nearest pair of perpendicular unit vectors; one that is nearly so already is kept as it is."""
    if np.abs(cosines @ cosines.T - np.eye(2)).max() <= _PERPENDICULAR:
        return cosines
    left, _, right = np.linalg.svd(cosines, full_matrices=False)
    return np.asarray(left @ right)


def _in_plane(planes: SourcePlanes) -> NDArray[np.float64]:
    """Give the way from the first pixel of a plane to each other, (rows, columns, 3), mm."""
    rows, columns = (np.arange(size) for size in planes.size)
    down = rows[:, None, None] * planes.cosines[1] * planes.spacing[0]
    right = columns[None, :, None] * planes.cosines[0] * planes.spacing[1]
    return np.asarray(down + right)


def _indices(volume: Volume, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the voxel indices of LPS points (..., 3)."""
    inverse = np.linalg.inv(LPS_TO_RAS @ volume.affine)
    return np.asarray(points @ inverse[:3, :3].T + inverse[:3, 3])
