"""Writers: results in the geometry and the format family of the scan that they belong to."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medresnet3d.errors import ConfigError, DataError, GeometryError
from medresnet3d.io.atomic import atomic_path
from medresnet3d.io.checks import check_affine
from medresnet3d.io.reading import known_suffix
from medresnet3d.io.volume import Volume

Labels = Sequence[str] | Mapping[Any, str]
RESULT_FORMATS = ("nifti", "mha", "nrrd", "dicomseg")
PICTURE = "image"
"""Format of plain pictures, whose label maps are pictures too."""

GZIP_LEVEL = 3
GZIP_THREADS = 2
CHUNK = 1 << 20
GEOMETRY_FIELDS = (
    *("sform_code", "qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z"),
)


def compact(array: NDArray[Any]) -> NDArray[Any]:
    """Give an array in the smallest type that the common formats know.

    Whole non-negative numbers (label maps) become uint8 or uint16, other integers int16 or int32, booleans uint8 and
    floating point float32 (float64 stays).

    Raises:
        DataError: if the values fit none of these.
    """
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind == "f":
        return array.astype(np.float32) if array.dtype.itemsize < 4 else array
    if array.dtype.kind not in "iu":
        raise DataError(f"voxels of type {array.dtype} cannot be written; give whole numbers or floating point.")
    low = int(array.min()) if array.size else 0
    if low < 0 and array.dtype.itemsize <= 2:
        return array.astype(np.int16, copy=False)
    high = int(array.max()) if array.size else 0
    for kind in (np.uint8, np.uint16, np.int16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return array.astype(kind, copy=False)
    raise DataError(f"voxel values from {low} to {high} do not fit into 32 bits and cannot be written.")


def save_nifti(
    array: NDArray[Any], affine: NDArray[Any], path: str | os.PathLike[str], *, like: Volume | None = None
) -> Path:
    """Write an array as NIfTI-1, whole or not at all.

    Args:
        array: voxels of shape (i, j, k); label maps become uint8 or uint16.
        affine: 4 x 4, from voxel indices to RAS+ millimetres.
        path: the file to write, ``.nii`` or ``.nii.gz``.
        like: the scan that the array belongs to. Where that is NIfTI and ``affine`` is its own, its sform, qform, their
            codes and its units are written unchanged, so that every viewer lays both exactly upon each other.

    Returns:
        The path.

    Raises:
        DataError: if the extension is not NIfTI's, the values cannot be stored, or the disk is full.
        GeometryError: if the affine is unusable or ``array`` does not have the shape of ``like``.
    """
    import nibabel as nib

    target = Path(path)
    if not target.name.lower().endswith((".nii", ".nii.gz")):
        raise DataError(f"{target}: a NIfTI file must be called .nii or .nii.gz.")
    affine = np.asarray(affine, dtype=np.float64)
    check_affine(affine, str(target))
    if like is not None and array.shape != like.shape:
        raise GeometryError(f"{target}: an array of shape {array.shape} does not fit {like.source.name}, {like.shape}.")
    image = nib.Nifti1Image(compact(array), affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    if like is not None and like.source.format == "nifti" and np.array_equal(affine, like.affine):
        image = _with_geometry(image, like.source.header)
    with atomic_path(target) as temporary, _opened(temporary) as handle:
        handle.write(_header_bytes(image))
        voxels = np.asfortranarray(image.dataobj).T.reshape(-1).view(np.uint8).data
        for start in range(0, len(voxels), CHUNK):
            handle.write(voxels[start : start + CHUNK])
    return target


def _opened(path: Path) -> Any:
    """Open a file for writing, compressed in threads by its name; the same voxels always give the same bytes."""
    if not path.name.lower().endswith(".gz"):
        return path.open("wb")
    from isal import igzip_threaded

    return igzip_threaded.open(path, "wb", compresslevel=GZIP_LEVEL, threads=GZIP_THREADS, block_size=CHUNK)


def _header_bytes(image: Any) -> bytes:
    """Give everything in front of the voxels of an image whose values are stored as they are."""
    header = image.header.copy()
    header.set_slope_inter(1, 0)
    content = io.BytesIO()
    header.write_to(content)
    return content.getvalue().ljust(header.get_data_offset(), b"\0")


def _with_geometry(image: Any, header: Any) -> Any:
    """Give ``image`` the raw geometry fields of another header (an affine passed to nibabel would overwrite them)."""
    image.header.set_xyzt_units(*header.get_xyzt_units())
    image.header["pixdim"][:4] = header["pixdim"][:4]
    for name in GEOMETRY_FIELDS:
        image.header[name] = header[name]
    return type(image)(image.dataobj, None, image.header)


def save_itk(array: NDArray[Any], affine: NDArray[Any], path: str | os.PathLike[str]) -> Path:
    """Write an array as compressed MetaImage (``.mha``) or NRRD (``.nrrd``), whole or not at all.

    Args:
        array: voxels of shape (i, j, k); label maps become uint8 or uint16.
        affine: 4 x 4, from voxel indices to RAS+ millimetres; its axes must be perpendicular.
        path: the file to write.

    Returns:
        The path.

    Raises:
        DataError: if the extension is neither, or the file cannot be written.
        GeometryError: if the affine is unusable or sheared.
    """
    import SimpleITK as sitk  # noqa: N813

    from medresnet3d.io.itk import itk_image

    target = Path(path)
    if target.suffix.lower() not in (".mha", ".nrrd"):
        raise DataError(f"{target}: choose the extension .mha or .nrrd.")
    affine = np.asarray(affine, dtype=np.float64)
    check_affine(affine, str(target))
    image = itk_image(compact(array), affine)
    with atomic_path(target) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
        except RuntimeError as error:
            raise DataError(f"{target}: cannot be written ({str(error).splitlines()[-1].strip()}).") from error
    return target


def save_grey_picture(array: NDArray[Any], path: str | os.PathLike[str]) -> Path:
    """Write values from 0 to 1 as a grey PNG of eight bits, in the size of the picture that they belong to.

    Args:
        array: (columns, rows, 1), as :func:`medresnet3d.io.images.read_image` orders them.
        path: the file.
    """
    from PIL import Image

    target = Path(path)
    grey = np.rint(255 * array[:, :, 0].T.clip(0, 1)).astype(np.uint8)
    with atomic_path(target) as temporary:
        Image.fromarray(grey).save(temporary, format="PNG")
    return target


def save_label_picture(label_map: NDArray[Any], path: str | os.PathLike[str]) -> Path:
    """Write a label map as a grey PNG whose values are the numbers of the labels, of eight bits where they fit.

    Args:
        label_map: (columns, rows, 1), whole numbers, as :func:`medresnet3d.io.images.read_image` orders them.
        path: the file.

    Raises:
        DataError: for numbers that do not fit into 16 bits.
    """
    from PIL import Image

    target, values = Path(path), compact(label_map[:, :, 0].T)
    if values.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{target}: labels from {values.min()} to {values.max()} do not fit into a PNG; use nifti.")
    with atomic_path(target) as temporary:
        Image.fromarray(np.ascontiguousarray(values)).save(temporary, format="PNG")
    return target


def save_like(
    volume: Volume,
    array: NDArray[Any],
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    labels: Labels | None = None,
    codes: Mapping[str, Any] | None = None,
    bundle: str = "medresnet3d",
    version: str = "",
) -> list[Path]:
    """Write a result in the geometry and the format family of its scan.

    NIfTI gives ``.nii.gz``, MetaImage ``.mha``, NRRD ``.nrrd``; a label map of a picture is a ``.png`` (other voxels
    ``.nii.gz``); DICOM gives ``.nii.gz`` and, for a label map, a DICOM
    SEG (``.dcm``) that refers to the source instances. An array in memory gives ``.nii.gz``.

    Args:
        volume: the scan.
        array: label map or other voxels on its grid, shape (i, j, k).
        path: where to write, without extension (a known one is replaced).
        format: ``"nifti"``, ``"mha"``, ``"nrrd"`` or ``"dicomseg"`` instead of the scan's own family.
        labels: names of the label values, for DICOM SEG: in order of the values, or by value.
        codes: codes of the label values, for DICOM SEG; see :func:`medresnet3d.io.dicomseg.write_dicom_seg`.
        bundle: name of the bundle that made the result.
        version: its version.

    Returns:
        The files that were written.

    Raises:
        ConfigError: if ``format`` is unknown, or is ``"dicomseg"`` for a scan that is not DICOM.
        GeometryError: if the array is not on the scan's grid.
    """
    if array.shape != volume.shape:
        raise GeometryError(
            f"{path}: an array of shape {array.shape} does not fit {volume.source.name}, {volume.shape}."
        )
    stem = str(path)
    stem = stem[: -len(suffix)] if (suffix := known_suffix(stem)) else stem
    written = []
    for kind in _kinds(volume, array, format):
        if kind == PICTURE:
            written.append(save_label_picture(array, f"{stem}.png"))
        elif kind == "nifti":
            written.append(save_nifti(array, volume.affine, f"{stem}.nii.gz", like=volume))
        elif kind in ("mha", "nrrd"):
            written.append(save_itk(array, volume.affine, f"{stem}.{kind}"))
        else:
            from medresnet3d.io.dicomseg import write_dicom_seg

            names = labels if labels is not None else {value: f"label {value}" for value in range(int(array.max()) + 1)}
            target = f"{stem}.dcm"
            written.append(write_dicom_seg(array, volume, names, target, codes=codes, bundle=bundle, version=version))
    return written


def _kinds(volume: Volume, array: NDArray[Any], wanted: str | None) -> tuple[str, ...]:
    if wanted == "dicomseg" and volume.source.format != "dicom":
        raise ConfigError(
            f"{volume.source.name}: DICOM SEG needs a DICOM scan to refer to, but this is {volume.source.format}; "
            "choose the format nifti."
        )
    if wanted in RESULT_FORMATS:
        return (wanted,)
    if wanted is not None:
        raise ConfigError(f"the output format {wanted!r} is not known; choose one of {', '.join(RESULT_FORMATS)}.")
    if volume.source.format == "dicom":
        return ("nifti", "dicomseg") if array.dtype.kind in "biu" else ("nifti",)
    if volume.source.format == PICTURE and array.dtype.kind in "biu":
        return (PICTURE,)
    return (volume.source.format if volume.source.format in RESULT_FORMATS else "nifti",)
