"""Analyze 7.5 in: the pair of ``.img`` and ``.hdr`` that scans before NIfTI came in, and NIfTI in two files."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from medresnet3d.errors import DataError
from medresnet3d.io.checks import check_spacing, choose_volume
from medresnet3d.io.volume import Source, Volume, stand_in

HEADER_SIZE = 348
NIFTI_MARKS = (b"ni1\0", b"n+1\0")
ORIENTATION_BYTE = 252
TRANSVERSE = 0
AXES = {
    TRANSVERSE: ((-1, 0, 0), (0, 1, 0), (0, 0, 1)),
    1: ((-1, 0, 0), (0, 0, 1), (0, 1, 0)),
    2: ((0, 1, 0), (0, 0, 1), (-1, 0, 0)),
}
"""RAS+ directions of i, j and k for the header's orient byte: transverse, coronal, sagittal (all unflipped)."""

_DAMAGE = (EOFError, OSError, ValueError, struct.error, ImageFileError, HeaderDataError, WrapStructError)


def read_analyze(path: Path, volume: str | None = None) -> Volume:
    """Read an Analyze 7.5 image, or a NIfTI-1 image in two files.

    Args:
        path: the ``.img`` or the ``.hdr`` file; the other lies beside it.
        volume: which volume of a four-dimensional file, as text or number from 0; ignored for others.

    Returns:
        The volume. An Analyze header has voxel sizes and the plane of the slices but no place in space: the middle of
        the volume becomes the origin, and left is where the format's definition says, with a warning. A scale factor
        as SPM writes it is applied.

    Raises:
        AmbiguousInputError: if the file has several volumes and ``volume`` names none of them.
        DataError: if one of the two files is missing or damaged.
        GeometryError: if a voxel size is zero.
    """
    warnings: list[str] = []
    with _damage_in_words(path):
        pair = _opened(path)
        shape, index = choose_volume(pair.image.shape, volume, str(path), warnings)
        _check_size(pair.image, pair.files[1])
        array = _voxels(pair.image, shape, index)
    return _volume(path, pair, array, warnings)


def read_analyze_header(path: Path) -> Volume:
    """Read the header of an Analyze image; the array of the volume is a stand-in without memory.

    Raises:
        AmbiguousInputError: if the file has several volumes.
        DataError: if one of the two files is missing or damaged.
        GeometryError: if a voxel size is zero.
    """
    warnings: list[str] = []
    with _damage_in_words(path):
        pair = _opened(path)
        shape, _ = choose_volume(pair.image.shape, None, str(path), warnings)
        _check_size(pair.image, pair.files[1])
    return _volume(path, pair, stand_in(shape, pair.image.get_data_dtype()), warnings)


class _Opened(NamedTuple):
    files: tuple[Path, Path]
    start: bytes
    nifti: bool
    image: Any


def _opened(path: Path) -> _Opened:
    """Open a pair without reading its voxels."""
    header_path, image_path = _pair(path)
    start = header_path.read_bytes()[:HEADER_SIZE]
    if len(start) < HEADER_SIZE:
        raise EOFError(f"{len(start)} of {HEADER_SIZE} bytes of header")
    nifti = start[-4:] in NIFTI_MARKS
    with LoggingOutputSuppressor():
        kind: Any = nib.nifti1.Nifti1Pair if nifti else nib.spm99analyze.Spm99AnalyzeImage
        return _Opened((header_path, image_path), start, nifti, kind.from_filename(image_path))


@contextmanager
def _damage_in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except _DAMAGE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise DataError(f"{path}: the Analyze image is damaged or cut short ({reason}); copy it again.") from error


def _volume(path: Path, pair: _Opened, array: NDArray[Any], warnings: list[str]) -> Volume:
    image = pair.image
    i, j, k = array.shape
    affine = image.affine if pair.nifti else _affine(image.header, pair.start, (i, j, k), path, warnings)
    source = Source(path, pair.files, "analyze", image.header)
    return Volume(array, np.asarray(affine, dtype=np.float64), None, tuple(warnings), source)


def _pair(path: Path) -> tuple[Path, Path]:
    """The header and the image of a pair."""
    other = {".img": ".hdr", ".hdr": ".img", ".IMG": ".HDR", ".HDR": ".IMG"}[path.suffix]
    beside = path.with_suffix(other)
    if not beside.is_file():
        raise DataError(f"{path}: its other half, {beside.name}, is missing; copy it beside this file.")
    return (beside, path) if path.suffix.lower() == ".img" else (path, beside)


def _check_size(image: Any, path: Path) -> None:
    needed = math.prod(image.shape) * image.get_data_dtype().itemsize
    if path.stat().st_size < needed:
        raise EOFError(f"{path.stat().st_size} of {needed} bytes of voxels")


def _voxels(image: Any, shape: tuple[int, int, int], index: int) -> NDArray[Any]:
    """The voxels (i, j, k) of one volume in the file's own type, unless a scale makes them real numbers."""
    slope, intercept = image.header.get_slope_inter()
    plain = slope in (None, 1.0) and intercept in (None, 0.0)
    stored = image.dataobj.get_unscaled() if plain else np.asanyarray(image.dataobj)
    chosen = stored.reshape((*shape, -1), order="F")[..., index]
    return np.asarray(chosen, dtype=chosen.dtype.newbyteorder("="))


def _affine(
    header: Any, start: bytes, shape: tuple[int, int, int], path: Path, warnings: list[str]
) -> NDArray[np.float64]:
    """Voxel sizes along the axes that the orient byte names, with the origin in the middle."""
    raw = type(header)(start, check=False)  # nibabel repairs pixdim in silence
    sizes = np.abs(np.asarray(raw["pixdim"][1:4], dtype=np.float64))
    check_spacing(sizes, str(path))
    orientation = start[ORIENTATION_BYTE]
    if orientation not in AXES:
        warnings.append(f"The Analyze header gives the orientation {orientation}; transverse slices were assumed.")
    warnings.append(
        "An Analyze header does not place the image in space: its middle was taken as the origin, and the first axis "
        "of transverse slices to run from right to left."
    )
    affine = np.eye(4)
    affine[:3, :3] = np.array(AXES.get(orientation, AXES[TRANSVERSE])).T * sizes
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine
