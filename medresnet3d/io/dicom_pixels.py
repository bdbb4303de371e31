"""Voxels of DICOM slices: decoded, rescaled slice by slice, and stacked without a transpose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from medresnet3d.errors import DataError
from medresnet3d.io.dicom_frames import frames, require_decoder
from medresnet3d.io.dicom_slices import Slice
from medresnet3d.io.dicom_values import number, text
from medresnet3d.io.rescale import rescale

PHYSICAL = ("CT", "PT", "NM")
"""Modalities whose values are quantities: MONOCHROME1 says how to show them, never what they are."""


def read_voxels(slices: Sequence[Slice], name: str, notes: list[str]) -> NDArray[Any]:
    """Decode slices of equal size and stack them.

    Args:
        slices: in volume order.
        name: of the series, for messages.
        notes: gets a warning where values were inverted.

    Returns:
        Rescaled values of shape (columns, rows, slices), columns fastest in memory: stored values where there is no
        rescaling, int16 or int32 for whole intercepts, else float32.

    Raises:
        DataError: if pixel data are missing, cut short, or compressed in a way that no installed decoder knows.
    """
    if not slices:
        raise DataError(f"{name}: there is no slice to read.")
    for syntax in {one.dataset.file_meta.TransferSyntaxUID for one in slices}:
        require_decoder(syntax, name)
    scales = {(one.slope, one.intercept) for one in slices}
    if is_inverted(slices[0].dataset):
        notes.append("The image is stored inverted (MONOCHROME1); it was turned so that bright means high.")
    if len(scales) > 1:
        return _rescaled_one_by_one(slices, name).T
    stored, limits = _stored(slices, name)
    return rescale(stored, *scales.pop(), limits=limits, reuse=True).T


def _stored(slices: Sequence[Slice], name: str) -> tuple[NDArray[Any], tuple[int, int] | None]:
    """Give stored values (slices, rows, columns) and, for integers, the smallest and the largest."""
    out: NDArray[Any] | None = None
    low, high = [], []
    for index, plane in enumerate(_planes(slices, name)):
        if out is None:
            out = np.empty((len(slices), *plane.shape), plane.dtype)
        if not np.can_cast(plane.dtype, out.dtype):
            out = out.astype(np.promote_types(plane.dtype, out.dtype))
        out[index] = plane
        low.append(plane.min())
        high.append(plane.max())
    assert out is not None
    return out, (int(min(low)), int(max(high))) if out.dtype.kind in "iu" else None


def _rescaled_one_by_one(slices: Sequence[Slice], name: str) -> NDArray[np.float32]:
    first = slices[0].dataset
    shape = (len(slices), int(number(first, "Rows") or 0), int(number(first, "Columns") or 0))
    out = np.empty(shape, np.float32)
    for index, (one, plane) in enumerate(zip(slices, _planes(slices, name), strict=True)):
        out[index] = rescale(plane, one.slope, one.intercept)
    return out


def _planes(slices: Sequence[Slice], name: str) -> Iterator[NDArray[Any]]:
    """Decode slices in order; runs of frames from one file open that file once."""
    first = slices[0].dataset
    size = (int(number(first, "Rows") or 0), int(number(first, "Columns") or 0))
    for path, run in groupby(slices, key=lambda one: one.path):
        group = list(run)
        for one, plane in zip(group, frames(path, group[0].dataset, [one.frame for one in group]), strict=True):
            if plane.shape != size:
                raise DataError(f"{name}: {one.place} decodes to {plane.shape} pixels where {size} were expected.")
            yield _upright(plane, one.dataset)


def is_inverted(dataset: Dataset) -> bool:
    """Whether a picture is stored with bright as low, so that :func:`read_voxels` turns it."""
    return text(dataset, "PhotometricInterpretation") == "MONOCHROME1" and text(dataset, "Modality") not in PHYSICAL


def _upright(plane: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    if not is_inverted(dataset):
        return plane
    bits = int(number(dataset, "BitsStored") or plane.dtype.itemsize * 8)
    if plane.dtype.kind == "i":
        return (-1 - plane).astype(plane.dtype)
    return (plane.dtype.type(2**bits - 1) - plane).astype(plane.dtype)
