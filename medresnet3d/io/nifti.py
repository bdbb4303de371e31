"""NIfTI in: native order and data type, one pass over a compressed file, its checksum verified."""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip_threaded
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from medresnet3d.errors import DataError
from medresnet3d.io.checks import check_spacing, choose_volume
from medresnet3d.io.rescale import rescale
from medresnet3d.io.volume import Source, Volume, same_grid, stand_in

CHUNK = 1 << 20
"""Bytes that are decompressed at once: enough to be fast, few enough to stay in the processor's cache."""
NIFTI1_SIZE = 348
MOST_EXTENSIONS = 1 << 30
BEST_COMPRESSION = 1100
"""No gzip file is compressed better than this."""
UNIT_MM = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}
_DAMAGE = (EOFError, OSError, ValueError, zlib.error, ImageFileError, HeaderDataError, WrapStructError)


def read_nifti(path: Path, volume: str | None = None) -> Volume:
    """Read a NIfTI-1 or NIfTI-2 file.

    Args:
        path: a ``.nii`` or ``.nii.gz`` file.
        volume: which volume of a four-dimensional file, as text or number from 0; ignored for others.

    Returns:
        The volume; ``source.header`` is the nibabel header. The affine is the sform where its code is set, else the
        qform, else voxel sizes alone (with a warning). A trailing axis of length one is dropped with a warning.

    Raises:
        AmbiguousInputError: if the file has several volumes and ``volume`` names none of them.
        DataError: if the file is damaged, or has more than four dimensions.
        GeometryError: if a voxel size is zero.
    """
    warnings: list[str] = []
    with _damage_in_words(path), _opened(path) as handle:
        start, header = _header(handle)
        shape, index = choose_volume(header.get_data_shape(), volume, str(path), warnings)
        _check_size(path, header, shape)
        _skip(handle, index * math.prod(shape) * header.get_data_dtype().itemsize)
        stored = _voxels(handle, header, shape)
        _finish(handle)
    return _volume(path, start, header, stored, warnings)


def read_nifti_header(path: Path) -> Volume:
    """Read the header of a NIfTI file; the array of the volume is a stand-in without memory.

    Raises:
        AmbiguousInputError: if the file has several volumes.
        DataError: if the header is damaged, or has more than four dimensions.
        GeometryError: if a voxel size is zero.
    """
    warnings: list[str] = []
    with _damage_in_words(path), _opened(path) as handle:
        start, header = _header(handle)
        shape, _ = choose_volume(header.get_data_shape(), None, str(path), warnings)
        _check_size(path, header, shape)
    affine = _affine(start, header, path, warnings)
    source = Source(path, (path,), "nifti", header)
    return Volume(stand_in(shape, header.get_data_dtype()), affine, None, tuple(warnings), source)


def read_nifti_volumes(path: Path) -> Iterator[Volume]:
    """Read every volume of a NIfTI file, in one pass.

    Args:
        path: a ``.nii`` or ``.nii.gz`` file.

    Yields:
        The volumes in their order, as :func:`read_nifti` gives them.

    Raises:
        DataError: if the file is damaged, or has more than four dimensions.
        GeometryError: if a voxel size is zero.
    """
    with ExitStack() as opened:
        with _damage_in_words(path):
            handle = opened.enter_context(_opened(path))
            start, header = _header(handle)
            stored_shape = header.get_data_shape()
        count = stored_shape[3] if len(stored_shape) > 3 else 1
        for index in range(count):
            warnings: list[str] = []
            with _damage_in_words(path):
                shape, _ = choose_volume(stored_shape, str(index), str(path), warnings)
                _check_size(path, header, shape)
                stored = _voxels(handle, header, shape)
                if index == count - 1:
                    _finish(handle)
            yield _volume(path, start, header, stored, warnings)


@contextmanager
def _damage_in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except _DAMAGE as error:
        reason = _reason(error)
        raise DataError(f"{path}: the NIfTI file is damaged or cut short ({reason}); copy it again.") from error


def _volume(path: Path, start: bytes, header: Any, stored: NDArray[Any], warnings: list[str]) -> Volume:
    with _damage_in_words(path):
        slope, intercept = header.get_slope_inter()
    affine = _affine(start, header, path, warnings)
    array = rescale(stored, 1.0 if slope is None else slope, intercept or 0.0, reuse=True)
    result = Volume(array, affine, None, tuple(warnings), Source(path, (path,), "nifti", header))
    _compare_forms(result, warnings)
    return replace(result, warnings=tuple(warnings))


def _opened(path: Path) -> Any:
    """Open a file for reading, decompressed by another thread where its content is compressed."""
    with path.open("rb") as handle:
        compressed = handle.read(2) == b"\x1f\x8b"
    if compressed:
        return igzip_threaded.open(path, "rb", threads=1, block_size=CHUNK)
    return path.open("rb", buffering=0)


def _header(handle: Any) -> tuple[bytes, Any]:
    """Give the bytes in front of the voxels and the header that nibabel makes of them."""
    start = handle.read(NIFTI1_SIZE)
    klass = nib.Nifti2Header if start[:4] in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c") else nib.Nifti1Header
    size = klass.template_dtype.itemsize
    start += handle.read(size - len(start)) if size > len(start) else b""
    offset = int(klass(start[:size], check=False)["vox_offset"])
    if offset > MOST_EXTENSIONS:
        raise ValueError(f"its voxels would start at byte {offset}")
    start += handle.read(max(offset - len(start), 0))
    with LoggingOutputSuppressor():  # what it would tell is told in our own words
        header = klass.from_fileobj(io.BytesIO(start))
    if header.get_data_offset() != len(start):
        raise ValueError(f"its voxels would start at byte {offset}")
    return start, header


def _skip(handle: Any, count: int) -> None:
    if handle.seekable():
        handle.seek(count, io.SEEK_CUR)
        return
    while count and (skipped := len(handle.read(min(count, CHUNK)))):
        count -= skipped


def _check_size(path: Path, header: Any, shape: tuple[int, ...]) -> None:
    if math.prod(shape) * header.get_data_dtype().itemsize > path.stat().st_size * BEST_COMPRESSION:
        raise EOFError(f"voxels of shape {shape} do not fit into it")


def _voxels(handle: Any, header: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Read the next volume, in the file's own order."""
    array = np.empty(shape, header.get_data_dtype(), order="F")
    size = array.nbytes
    target = array.T.reshape(-1).view(np.uint8).data
    done = 0
    while done < size:
        count = handle.readinto(target[done : done + CHUNK])
        if not count:
            raise EOFError(f"{done} of {size} bytes of voxels")
        done += count
    return array


def _finish(handle: Any) -> None:
    """Read the rest of a compressed file, so that its checksum is verified."""
    while not handle.seekable() and handle.read(CHUNK):
        continue


def _reason(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")


def _affine(start: bytes, header: Any, path: Path, warnings: list[str]) -> NDArray[np.float64]:
    raw = type(header)(start[: header.template_dtype.itemsize], check=False)  # nibabel repairs pixdim in silence
    if int(raw["sform_code"]) == 0:
        check_spacing(raw["pixdim"][1 : 1 + min(3, int(raw["dim"][0]))], str(path))
    if int(header["sform_code"]) == 0 and int(header["qform_code"]) == 0:
        warnings.append(
            "The NIfTI header has neither sform nor qform: only the voxel size is known, left and right are not, and "
            "RAS+ order was assumed."
        )
    affine = np.array(header.get_best_affine(), dtype=np.float64)
    unit = header.get_xyzt_units()[0]
    if unit in UNIT_MM and UNIT_MM[unit] != 1.0:
        warnings.append(f"The NIfTI header gives lengths in {unit}s; they were converted to millimetres.")
        affine[:3] *= UNIT_MM[unit]
    return affine


def _compare_forms(volume: Volume, warnings: list[str]) -> None:
    header = volume.source.header
    if int(header["sform_code"]) == 0 or int(header["qform_code"]) == 0:
        return
    other = Volume(volume.array, np.array(header.get_qform(), dtype=np.float64))
    own = Volume(volume.array, np.array(header.get_sform(), dtype=np.float64))
    if min(own.spacing) > 0 and not same_grid(own, other, tolerance=0.5):
        warnings.append(
            "The sform and the qform of the NIfTI header disagree by more than half a voxel; the sform was used."
        )
