"""A scan in memory: voxels, geometry and where they came from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medresnet3d.errors import DataError, GeometryError
from medresnet3d.io.checks import check_affine, check_voxels

if TYPE_CHECKING:
    from pydicom import Dataset

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Converts between DICOM's and ITK's LPS and our RAS+, in both directions. Used at the door of this room only."""

PROJECTIONS = ("MG", "DX", "CR", "IO", "PX", "RF", "XA")
"""DICOM modalities whose images are projections."""


@dataclass(frozen=True, eq=False)
class Source:
    """Where a :class:`Volume` came from, with what is needed to write a result beside it.

    Args:
        path: the path that was asked for; ``None`` for an array in memory.
        files: every file that was read, in slice order for DICOM.
        format: ``"nifti"``, ``"analyze"``, ``"mha"``, ``"nrrd"``, ``"dicom"``, ``"image"`` (PNG, JPEG, TIFF, BMP) or
            ``"array"``.
        header: the NIfTI header or the ITK metadata dictionary, as read.
        datasets: DICOM source instances without pixel data, in slice order (one for a multi-frame file).
        frames: for a multi-frame DICOM file, the 0-based frame of each slice.
        series: SeriesInstanceUID of a DICOM series.
        description: SeriesDescription of a DICOM series, or an empty text.
        regridded: whether the volume was computed on a grid other than that of the images it was read from (gantry tilt
            removed, gaps filled, mosaic taken apart), so that results cannot refer to those images voxel by voxel.
    """

    path: Path | None = None
    files: tuple[Path, ...] = ()
    format: str = "array"
    header: Any = None
    datasets: tuple[Dataset, ...] = ()
    frames: tuple[int, ...] = ()
    series: str | None = None
    description: str = ""
    regridded: bool = False

    @property
    def name(self) -> str:
        """The path that was asked for, or ``"array in memory"``, for messages."""
        return "array in memory" if self.path is None else str(self.path)


@dataclass(frozen=True, eq=False)
class Volume:
    """A three-dimensional scan with its geometry.

    Args:
        array: voxels of shape (i, j, k), in the order of the affine's columns and in the file's own data type (CT and
            other rescaled DICOM: int16, int32 or float32 of the rescaled values). The memory layout is the file's own,
            so that ``i`` is usually the fastest axis.
        affine: 4 x 4, float64, from voxel indices to millimetres in RAS+.
        modality: DICOM modality such as ``"CT"`` or ``"MR"``, where known.
        warnings: what was repaired or assumed, one sentence each.
        source: where it came from.
    """

    array: NDArray[Any]
    affine: NDArray[np.float64]
    modality: str | None = None
    warnings: tuple[str, ...] = ()
    source: Source = field(default_factory=Source)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along i, j and k."""
        i, j, k = self.array.shape[:3]
        return i, j, k

    @property
    def channels(self) -> int:
        """Number of values of a voxel: 1, or 3 for the red, green and blue of a colour picture."""
        return 1 if self.array.ndim == 3 else int(self.array.shape[3])

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance in millimetres between neighbouring voxels along i, j and k."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def is_flat(self) -> bool:
        """Whether it is a picture or a film, in which nothing has a volume."""
        return self.source.format == "image" or (self.modality in PROJECTIONS and self.shape[2] == 1)

    def with_array(self, array: NDArray[Any]) -> Volume:
        """Give another array on this volume's grid, of shape (i, j, k) or (i, j, k, channels).

        Raises:
            GeometryError: if the shape differs.
        """
        if array.shape[:3] != self.shape:
            raise GeometryError(
                f"{self.source.name}: an array of shape {array.shape} does not fit the scan's {self.shape}."
            )
        return replace(self, array=array)


def as_volume(
    source: Volume | NDArray[Any] | tuple[NDArray[Any], NDArray[Any]], *, constant_ok: bool = False
) -> Volume:
    """Make a checked :class:`Volume` from one that exists, from an (array, affine) pair or from a bare array.

    Args:
        source: a volume; a pair of an (i, j, k) array and its 4 x 4 RAS+ affine; or an (i, j, k) array, which is taken
            to have 1 mm voxels and gets a warning that says so.
        constant_ok: accept an image that has one value everywhere, as label maps may.

    Raises:
        DataError: if the array is not a usable 3-D image.
        GeometryError: if the affine is unusable.
    """
    if isinstance(source, Volume):
        return source
    warnings: tuple[str, ...] = ()
    if isinstance(source, tuple):
        array, affine = np.asarray(source[0]), np.asarray(source[1], dtype=np.float64)
    else:
        array, affine = np.asarray(source), np.eye(4)
        warnings = ("No geometry was given with the array: 1 mm voxels in RAS+ order were assumed.",)
    name = Source().name
    if array.ndim != 3:
        raise DataError(f"{name}: an array of shape {array.shape} is not a 3-D image; give it as (i, j, k).")
    check_affine(affine, name)
    check_voxels(array, name, constant_ok=constant_ok)
    return Volume(array, affine, warnings=warnings)


def stand_in(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Give read-only zeros of a shape that take no memory, for a volume of which only the header is read."""
    return np.broadcast_to(np.zeros((), np.dtype(dtype).newbyteorder("=")), shape)


def same_grid(first: Volume, second: Volume, tolerance: float = 0.05) -> bool:
    """Tell whether two volumes have the same shape and, within ``tolerance`` voxels at each corner, the same place."""
    if first.shape != second.shape:
        return False
    size = np.array(first.shape) - 1
    corners = np.array([[*(size * corner), 1.0] for corner in np.ndindex(2, 2, 2)])
    shift = np.linalg.norm((corners @ (first.affine - second.affine).T)[:, :3], axis=1)
    return bool(shift.max() <= tolerance * min(first.spacing))


def require_same_grid(reference: Volume, other: Volume) -> None:
    """Raise unless ``other`` lies on the grid of ``reference``.

    Raises:
        GeometryError: naming both and what differs.
    """
    if same_grid(reference, other):
        return
    names = f"{other.source.name} and {reference.source.name}"
    if reference.shape != other.shape:
        raise GeometryError(
            f"{names} have different shapes, {other.shape} and {reference.shape}; resample one onto the other first."
        )
    raise GeometryError(
        f"{names} have the same shape but lie at different places (spacing {_text(other.spacing)} and "
        f"{_text(reference.spacing)} mm, origin {_text(other.affine[:3, 3])} and {_text(reference.affine[:3, 3])} mm); "
        "resample one onto the other first."
    )


def _text(values: Any) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
