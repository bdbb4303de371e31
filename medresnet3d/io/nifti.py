"""NIfTI in: native order and data type, one pass over a compressed file, its checksum verified."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.fileholders import FileHolder
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from medresnet3d.errors import DataError
from medresnet3d.io.checks import check_spacing
from medresnet3d.io.rescale import rescale
from medresnet3d.io.volume import Source, Volume, same_grid

UNIT_MM = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}
_DAMAGE = (EOFError, OSError, ValueError, zlib.error, ImageFileError, HeaderDataError, WrapStructError)


def read_nifti(path: Path) -> Volume:
    """Read a NIfTI-1 or NIfTI-2 file.

    Args:
        path: a ``.nii`` or ``.nii.gz`` file.

    Returns:
        The volume; ``source.header`` is the nibabel header. The affine is the sform where its code is set, else the
        qform, else voxel sizes alone (with a warning). A trailing axis of length one is dropped with a warning.

    Raises:
        DataError: if the file is damaged, or has more than three dimensions.
        GeometryError: if a voxel size is zero.
    """
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        image = _image(content)
        header = image.header
        stored = np.asanyarray(image.dataobj.get_unscaled())
    except _DAMAGE as error:
        reason = _reason(error)
        raise DataError(f"{path}: the NIfTI file is damaged or cut short ({reason}); copy it again.") from error
    warnings: list[str] = []
    array = _three_dimensions(stored, path, warnings)
    affine = _affine(content, image, path, warnings)
    array = rescale(array, image.dataobj.slope, image.dataobj.inter)
    volume = Volume(array, affine, None, tuple(warnings), Source(path, (path,), "nifti", header))
    _compare_forms(volume, warnings)
    return Volume(array, affine, None, tuple(warnings), volume.source)


def _image(content: bytes) -> Any:
    klass = nib.Nifti2Image if content[:4] in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c") else nib.Nifti1Image
    holder = FileHolder(fileobj=io.BytesIO(content))
    with LoggingOutputSuppressor():  # what it would tell is told in our own words
        return klass.from_file_map({"header": holder, "image": holder})


def _reason(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")


def _three_dimensions(array: NDArray[Any], path: Path, warnings: list[str]) -> NDArray[Any]:
    shape = array.shape
    if len(shape) > 3 and all(size == 1 for size in shape[3:]):
        warnings.append(f"The image has shape {shape}; its axes of length one after the third were dropped.")
        return array.reshape(shape[:3], order="F")
    if len(shape) > 3:
        raise DataError(
            f"{path}: the image has {len(shape)} dimensions (shape {shape}) where three are wanted; "
            "save the volume that you mean as a file of its own."
        )
    if not 2 <= len(shape) <= 3:
        raise DataError(f"{path}: the image has {len(shape)} dimensions (shape {shape}) where three are wanted.")
    return array.reshape((*shape, 1), order="F") if len(shape) == 2 else array


def _affine(content: bytes, image: Any, path: Path, warnings: list[str]) -> NDArray[np.float64]:
    header = image.header
    raw = type(header)(content[: header.template_dtype.itemsize], check=False)  # nibabel repairs pixdim in silence
    if int(raw["sform_code"]) == 0:
        check_spacing(raw["pixdim"][1 : 1 + min(3, int(raw["dim"][0]))], str(path))
    if int(header["sform_code"]) == 0 and int(header["qform_code"]) == 0:
        warnings.append(
            "The NIfTI header has neither sform nor qform: only the voxel size is known, left and right are not, and "
            "RAS+ order was assumed."
        )
    affine = np.array(image.affine, dtype=np.float64)
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
