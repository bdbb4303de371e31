"""Voxels of DICOM slices: decoded, rescaled slice by slice, and stacked without a transpose."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.pixels import get_decoder, iter_pixels
from pydicom.uid import ImplicitVRLittleEndian

from medresnet3d.errors import DataError
from medresnet3d.io.dicom_slices import Slice, number, text
from medresnet3d.io.rescale import rescale

PIXEL_TAGS: list[Any] = [
    *("PixelData", "FloatPixelData", "DoubleFloatPixelData", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PhotometricInterpretation"),
    *("PlanarConfiguration", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
]
DECODER_HINTS = {
    "1.2.840.10008.1.2.4.57": "python-gdcm",
    "1.2.840.10008.1.2.4.70": "python-gdcm",
    "1.2.840.10008.1.2.4.51": "python-gdcm",
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": "pylibjpeg and pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.91": "pylibjpeg and pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.201": "pylibjpeg and pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.202": "pylibjpeg and pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.203": "pylibjpeg and pylibjpeg-openjpeg",
}
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
    require_decoders(slices, name)
    first = slices[0].dataset
    out: NDArray[Any] | None = None
    scales = {(one.slope, one.intercept) for one in slices}
    for index, (one, plane) in enumerate(zip(slices, _planes(slices), strict=True)):
        if out is None:
            out = np.empty((len(slices), *plane.shape), plane.dtype if len(scales) == 1 else np.float32)
        if plane.shape != out.shape[1:]:
            raise DataError(f"{name}: {one.place} decodes to {plane.shape} pixels where {out.shape[1:]} were expected.")
        plane = _upright(plane, one.dataset)
        out[index] = plane if len(scales) == 1 else rescale(plane, one.slope, one.intercept)
    if out is None:
        raise DataError(f"{name}: there is no slice to read.")
    if _is_inverted(first):
        notes.append("The image is stored inverted (MONOCHROME1); it was turned so that bright means high.")
    return (rescale(out, *scales.pop()) if len(scales) == 1 else out).T


def require_decoders(slices: Sequence[Slice], name: str) -> None:
    """Refuse series whose compression no installed decoder knows.

    Raises:
        DataError: naming the transfer syntax and what to install.
    """
    for syntax in {one.dataset.file_meta.TransferSyntaxUID for one in slices}:
        try:
            usable = get_decoder(syntax).is_available
        except NotImplementedError:
            usable = False
        if not usable:
            hint = DECODER_HINTS.get(str(syntax), "python-gdcm")
            raise DataError(
                f"{name}: the pixels are compressed as {syntax.name} ({syntax}), for which no decoder is installed; "
                f"install {hint}."
            )


def _planes(slices: Sequence[Slice]) -> Iterator[NDArray[Any]]:
    """Decode slices in order; runs of frames from one file open that file once."""
    for path, run in groupby(slices, key=lambda one: one.path):
        group = list(run)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dataset = dcmread(path, force=True, specific_tags=PIXEL_TAGS)
                dataset.file_meta.TransferSyntaxUID = dataset.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)
                yield from iter_pixels(dataset, raw=True, indices=[one.frame for one in group])
        except (ValueError, RuntimeError, AttributeError, NotImplementedError, EOFError, OSError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
            raise DataError(f"{path}: the pixel data cannot be decoded ({reason}); copy the file again.") from error


def _is_inverted(dataset: Dataset) -> bool:
    return text(dataset, "PhotometricInterpretation") == "MONOCHROME1" and text(dataset, "Modality") not in PHYSICAL


def _upright(plane: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    if not _is_inverted(dataset):
        return plane
    bits = int(number(dataset, "BitsStored") or plane.dtype.itemsize * 8)
    if plane.dtype.kind == "i":
        return (-1 - plane).astype(plane.dtype)
    return (plane.dtype.type(2**bits - 1) - plane).astype(plane.dtype)
