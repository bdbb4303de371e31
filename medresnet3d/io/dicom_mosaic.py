"""Volumes stored as one picture of tiles: the Siemens mosaic and the grid ("VFRAME") of United Imaging (UIH)."""

from __future__ import annotations

import math
import struct
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.tag import BaseTag, Tag

from medresnet3d.io.dicom_values import number, numbers, private_number, text

SIEMENS_TILES = Tag(0x0019, 0x100A)
SIEMENS_TIMES = Tag(0x0019, 0x1029)
UIH_TILES = Tag(0x0065, 0x1050)
UIH_FRAMES = Tag(0x0065, 0x1051)
MOST_INTERPOLATED = 2
"""A single slice has at most this many times the acquired pixels along a side."""
LARGEST_GRID = 32


@dataclass(frozen=True, eq=False)
class Mosaic:
    """How a picture is divided into the slices of a volume, row by row.

    Args:
        tiles: number of slices; tiles after these are empty.
        across: tiles beside each other.
        down: tiles above each other.
        origin: centre of the first voxel of the first tile, LPS millimetres.
        step: vector from a slice to the next, LPS millimetres.
        guessed: whether the number of slices had to be guessed, since the header lost it.
    """

    tiles: int
    across: int
    down: int
    origin: NDArray[np.float64]
    step: NDArray[np.float64]
    guessed: bool = False

    def take_apart(self, picture: NDArray[Any]) -> NDArray[Any]:
        """Give the slices of a picture.

        Args:
            picture: pixels of shape (columns, rows).

        Returns:
            Array of shape (columns of a tile, rows of a tile, tiles), columns fastest in memory.
        """
        rows, columns = picture.shape[1] // self.down, picture.shape[0] // self.across
        grid = picture.T[: self.down * rows, : self.across * columns]
        tiles = grid.reshape(self.down, rows, self.across, columns).transpose(0, 2, 1, 3)
        return np.ascontiguousarray(tiles.reshape(-1, rows, columns)[: self.tiles]).T


def is_mosaic(dataset: Dataset) -> bool:
    """Tell whether a single-frame instance is a mosaic or grid.

    ImageType says so, but Siemens XA keeps the word for series that it has taken apart; their pixels are about as many
    as were acquired.
    """
    kinds = text(dataset, "ImageType").upper().split("\\")
    if not {"MOSAIC", "VFRAME"}.intersection(kinds) or (number(dataset, "NumberOfFrames") or 1) > 1:
        return False
    acquired = max(_acquired(dataset), default=0)
    large = (number(dataset, "Rows") or 0) > MOST_INTERPOLATED * acquired
    return not acquired or large or SIEMENS_TILES in dataset or UIH_TILES in dataset


def _acquired(dataset: Dataset) -> set[int]:
    """Give the sides of the acquired matrix in pixels; empty if they are not known."""
    matrix = numbers(dataset, "AcquisitionMatrix", 4)
    return set() if matrix is None else {int(side) for side in matrix if side > 0}


def _tiles_along(dataset: Dataset) -> int:
    """Guess how many acquired matrices fit along a side of the picture; 0 if they do not fit."""
    rows, columns = int(number(dataset, "Rows") or 0), int(number(dataset, "Columns") or 0)
    sides = _acquired(dataset)
    fitting = (n for n in range(2, LARGEST_GRID) if rows % n == 0 == columns % n)
    return next((n for n in fitting if {rows // n, columns // n} <= sides), 0)


def find_mosaic(dataset: Dataset) -> Mosaic | None:
    """Give the layout of a mosaic; ``None`` if the instance is none, or does not say how it is divided."""
    if not is_mosaic(dataset):
        return None
    position = numbers(dataset, "ImagePositionPatient", 3)
    orientation = numbers(dataset, "ImageOrientationPatient", 6)
    spacing = numbers(dataset, "PixelSpacing", 2)
    if position is None or orientation is None or spacing is None:
        return None
    cosines = orientation.reshape(2, 3)
    return _uih(dataset, position, cosines) or _siemens(dataset, position, cosines, spacing)


def _siemens(
    dataset: Dataset, position: NDArray[np.float64], cosines: NDArray[np.float64], spacing: NDArray[np.float64]
) -> Mosaic | None:
    """Siemens gives the position of a picture as large as the mosaic that has the same centre as the slice."""
    stated, stored = _csa_header(dataset)
    tiles = int(private_number(dataset, SIEMENS_TILES) or stated or _siemens_times(dataset))
    rows, columns = number(dataset, "Rows") or 0, number(dataset, "Columns") or 0
    guessed = tiles < 1
    tiles = tiles or _tiles_along(dataset) ** 2
    distance = number(dataset, "SpacingBetweenSlices") or number(dataset, "SliceThickness")
    if tiles < 1 or not distance:
        return None
    across = math.ceil(math.sqrt(tiles))
    surplus = np.array([columns - columns // across, rows - rows // across]) / 2
    origin = position + surplus[0] * spacing[1] * cosines[0] + surplus[1] * spacing[0] * cosines[1]
    normal = np.cross(cosines[0], cosines[1])
    if stored is not None and float(np.dot(stored, normal)) < 0:
        normal = -normal
    return Mosaic(tiles, across, across, origin, normal * distance, guessed)


def _siemens_times(dataset: Dataset) -> int:
    """Count the acquisition times of slices, of which some files keep nothing else."""
    element = dataset.get(SIEMENS_TIMES)
    return 0 if element is None or isinstance(element.value, bytes) else element.VM


def _csa_header(dataset: Dataset) -> tuple[int, NDArray[np.float64] | None]:
    """Give the number of slices and their normal from Siemens' private header; 0 and ``None`` if it cannot be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel warns at import that its DICOM part is young
        from nibabel.nicom import csareader
    try:
        header = csareader.get_csa_header(dataset)  # type: ignore[no-untyped-call]
        if not header:
            return 0, None
        return int(csareader.get_n_mosaic(header) or 0), csareader.get_slice_normal(header)  # type: ignore[no-untyped-call]
    except (csareader.CSAReadError, ValueError, LookupError, TypeError, AttributeError, struct.error):
        return 0, None


def _uih(dataset: Dataset, position: NDArray[np.float64], cosines: NDArray[np.float64]) -> Mosaic | None:
    """UIH lists the position of every slice; an instance without the list has that of the first slice."""
    tiles = int(private_number(dataset, UIH_TILES) or 0)
    if tiles < 1:
        return None
    across = math.ceil(math.sqrt(tiles))
    down = math.ceil(tiles / across)
    places = _uih_positions(dataset, UIH_FRAMES)
    if len(places) == tiles and tiles > 1:
        return Mosaic(tiles, across, down, places[0], (places[-1] - places[0]) / (tiles - 1))
    distance = number(dataset, "SpacingBetweenSlices") or number(dataset, "SliceThickness")
    if not distance:
        return None
    return Mosaic(tiles, across, down, position, np.cross(cosines[0], cosines[1]) * distance)


def _uih_positions(dataset: Dataset, tag: BaseTag) -> list[NDArray[np.float64]]:
    items = dataset[tag].value if tag in dataset else ()
    if isinstance(items, bytes) or items is None:
        return []
    found = [numbers(item, "ImagePositionPatient", 3) for item in items]
    return [one for one in found if one is not None]
