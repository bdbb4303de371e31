"""MetaImage and NRRD in, through SimpleITK; LPS becomes RAS+ here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813 (the name everybody uses)
from numpy.typing import NDArray

from medresnet3d.errors import DataError, GeometryError
from medresnet3d.io.checks import choose_volume
from medresnet3d.io.volume import LPS_TO_RAS, Source, Volume, stand_in


def read_itk(path: Path, volume: str | None = None) -> Volume:
    """Read a MetaImage (``.mha``, ``.mhd``) or NRRD (``.nrrd``, ``.nhdr``) file.

    Args:
        path: the file.
        volume: which volume of a four-dimensional image, as text or number from 0; ignored for others.

    Returns:
        The volume; ``source.header`` is the dictionary of metadata that ITK keeps.

    Raises:
        AmbiguousInputError: if the image has several volumes and ``volume`` names none of them.
        DataError: if the file is damaged, has colour or vector voxels, or has more than four dimensions.
        GeometryError: if ITK finds the spacing or the axes unusable.
    """
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise _translated(path, str(error)) from error
    warnings: list[str] = []
    _require_one_value(path, image.GetNumberOfComponentsPerPixel())
    image = _three_dimensions(image, volume, path, warnings)
    header = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    family = "mha" if path.suffix.lower() in (".mha", ".mhd") else "nrrd"
    if family == "nrrd" and "NRRD_space" not in header:
        warnings.append("The NRRD header names no space: left-posterior-superior order was assumed.")
    source = Source(path, (path,), family, header)
    return Volume(sitk.GetArrayFromImage(image).T, itk_affine(image), _modality(header), tuple(warnings), source)


def read_itk_header(path: Path) -> Volume:
    """Read the header of a MetaImage or NRRD file; the array of the volume is a stand-in without memory.

    Raises:
        AmbiguousInputError: if the image has several volumes.
        DataError: if the header is damaged, or the voxels are colours or vectors.
        GeometryError: if ITK finds the spacing or the axes unusable.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _translated(path, str(error)) from error
    warnings: list[str] = []
    _require_one_value(path, reader.GetNumberOfComponents())
    shape, _ = choose_volume(reader.GetSize(), None, str(path), warnings)
    dimensions = reader.GetDimension()
    axes = min(dimensions, 3)
    affine = np.eye(4)
    direction = np.array(reader.GetDirection()).reshape(dimensions, dimensions)
    affine[:axes, :axes] = (direction * np.array(reader.GetSpacing()))[:axes, :axes]
    affine[:axes, 3] = reader.GetOrigin()[:axes]
    header = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
    dtype = sitk.GetArrayViewFromImage(sitk.Image([1] * axes, reader.GetPixelID())).dtype
    family = "mha" if path.suffix.lower() in (".mha", ".mhd") else "nrrd"
    source = Source(path, (path,), family, header)
    return Volume(stand_in(shape, dtype), LPS_TO_RAS @ affine, _modality(header), tuple(warnings), source)


def _require_one_value(path: Path, components: int) -> None:
    if components > 1:
        raise DataError(f"{path}: each voxel has {components} values (colour or vectors); give a grey-scale image.")


def _modality(header: dict[str, str]) -> str | None:
    name = header.get("Modality", "").removeprefix("MET_MOD_")
    return None if name in ("", "UNKNOWN", "OTHER") else name


def itk_affine(image: sitk.Image) -> NDArray[np.float64]:
    """Give the 4 x 4 affine of an ITK image from voxel indices (i, j, k) to RAS+ millimetres."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return LPS_TO_RAS @ affine


def itk_image(array: NDArray[Any], affine: NDArray[np.float64]) -> sitk.Image:
    """Make an ITK image from an (i, j, k) array and its affine to RAS+ millimetres.

    Raises:
        GeometryError: if the axes are sheared, which ITK cannot express.
    """
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    lps = LPS_TO_RAS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    direction = lps[:3, :3] / spacing
    if np.abs(direction.T @ direction - np.eye(3)).max() > 1e-3:
        raise GeometryError("The axes of the affine are sheared, which this format cannot store; choose NIfTI instead.")
    image.SetSpacing(spacing.tolist())
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def _three_dimensions(image: sitk.Image, volume: str | None, path: Path, warnings: list[str]) -> sitk.Image:
    size = image.GetSize()
    shape, index = choose_volume(size, volume, str(path), warnings)
    if len(size) == 2:
        return sitk.JoinSeries(image)
    if len(size) > 3:
        rest = len(size) - 3
        return sitk.Extract(image, [*shape, *[0] * rest], [0, 0, 0, index, *[0] * (rest - 1)])
    return image


def _translated(path: Path, text: str) -> DataError:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reason = next((line for line in reversed(lines) if "ITK ERROR" in line), lines[-1] if lines else "unknown reason")
    lowered = text.lower()
    if "spacing" in lowered:
        return GeometryError(f"{path}: a voxel size is 0 mm; correct the spacing in the header.")
    if "direction" in lowered or "determinant" in lowered:
        return GeometryError(
            f"{path}: the affine cannot be inverted (its axes are not independent); correct the header."
        )
    return DataError(f"{path}: cannot be read, the file is damaged or cut short ({reason.rstrip('.')}).")
