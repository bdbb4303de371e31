"""What every image must satisfy at the door, one clear sentence each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medresnet3d.errors import AmbiguousInputError, DataError, GeometryError

MIN_SPACING_MM = 1e-6


def check_affine(affine: NDArray[np.float64], name: str) -> None:
    """Refuse an affine that cannot place voxels in space.

    Args:
        affine: 4 x 4, from voxel indices to RAS+ millimetres.
        name: the file, for the message.

    Raises:
        GeometryError: if it has a wrong shape, values that are not finite, a voxel size of zero or linearly dependent
            axes.
    """
    if affine.shape != (4, 4):
        raise GeometryError(f"{name}: the affine has shape {affine.shape}; a 4 x 4 matrix is needed.")
    if not np.isfinite(affine).all():
        raise GeometryError(
            f"{name}: the affine contains values that are not finite; write the file again from its source."
        )
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    for axis, size in zip("ijk", spacing, strict=True):
        if size < MIN_SPACING_MM:
            raise GeometryError(f"{name}: the voxel size along axis {axis} is 0 mm; correct the spacing in the header.")
    if abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-4:
        raise GeometryError(
            f"{name}: the affine cannot be inverted (its axes are not independent); correct the header."
        )


def check_spacing(spacing: Any, name: str) -> None:
    """Refuse spacings that are zero or not finite, for headers that store them apart from the axes.

    Raises:
        GeometryError: naming the axis.
    """
    for axis, size in zip("ijk", spacing, strict=False):
        if not np.isfinite(size) or abs(size) < MIN_SPACING_MM:
            raise GeometryError(
                f"{name}: the voxel size along axis {axis} is {size:g} mm; correct the spacing in the header."
            )


def choose_volume(
    shape: tuple[int, ...], wanted: str | None, name: str, warnings: list[str]
) -> tuple[tuple[int, int, int], int]:
    """Choose one volume of an image of four dimensions.

    Args:
        shape: of the image as it is stored, (i, j), (i, j, k) or (i, j, k, volumes).
        wanted: number of the volume, from 0, as text; ignored where there is only one.
        name: the file, for the message.
        warnings: gets a sentence where axes are dropped.

    Returns:
        The shape of one volume and its number.

    Raises:
        AmbiguousInputError: if there are several volumes and ``wanted`` names none of them.
        DataError: if there are more or fewer dimensions.
    """
    if len(shape) < 2 or any(size != 1 for size in shape[4:]):
        raise DataError(
            f"{name}: the image has {len(shape)} dimensions (shape {shape}) where three are wanted; "
            "save the volume that you mean as a file of its own."
        )
    i, j, k = (*shape, 1, 1, 1)[:3]
    if len(shape) > 3 and all(size == 1 for size in shape[3:]):
        warnings.append(f"The image has shape {shape}; its axes of length one after the third were dropped.")
        return (i, j, k), 0
    if len(shape) < 4:
        return (i, j, k), 0
    if wanted is None or not wanted.isdecimal() or int(wanted) >= shape[3]:
        fault = "one has to be chosen" if wanted is None else f"there is no volume {wanted!r}"
        raise AmbiguousInputError(
            f"{name}: the image has 4 dimensions (shape {shape}), so {fault}; choose one of its {shape[3]} volumes "
            f"with --series N (series='N' in Python), N from 0 to {shape[3] - 1}."
        )
    return (i, j, k), int(wanted)


def check_voxels(array: NDArray[Any], name: str, *, constant_ok: bool = False, nan_ok: bool = False) -> None:
    """Refuse voxels from which nothing can be computed.

    Args:
        array: voxels of shape (i, j, k).
        name: the file, for the message.
        constant_ok: accept an image that has one value everywhere, as label maps may.
        nan_ok: accept voxels that are NaN or infinite, as maps derived from scans have; some must be finite.

    Raises:
        DataError: if the array is empty, is not of plain numbers, has values that are not finite, or is constant.
    """
    if array.size == 0:
        raise DataError(f"{name}: the image has no voxels (shape {array.shape}).")
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"{name}: voxels of type {array.dtype} (colour or complex) are not supported; give a grey-scale image."
        )
    if array.dtype.kind == "f":
        _check_finite(array, name, nan_ok)
    if not constant_ok and _is_constant(array):
        raise DataError(
            f"{name}: every voxel has the value {array.flat[0]:g}; the image is empty, so check how it was made."
        )


def _check_finite(array: NDArray[Any], name: str, nan_ok: bool) -> None:
    if np.isfinite(array.min()) and np.isfinite(array.max()):  # both carry a NaN on; no temporary mask is needed
        return
    bad = int(array.size - np.count_nonzero(np.isfinite(array)))
    if bad == array.size:
        raise DataError(f"{name}: no voxel has a finite value (all are NaN or infinite); check how the image was made.")
    if nan_ok:
        return
    raise DataError(
        f"{name}: {bad} of {array.size} voxels are NaN or infinite; replace them (by the background value) first."
    )


def _is_constant(array: NDArray[Any]) -> bool:
    first = array.flat[0]
    flat = array.ravel(order="K")  # a view for the layouts that readers make
    if (flat[:: max(1, flat.size // 997)] != first).any():
        return False
    return bool((flat == first).all())
