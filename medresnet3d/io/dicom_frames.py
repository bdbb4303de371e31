"""Frames of one DICOM file: plain ones straight from their place in the file, others through pydicom's decoders."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.pixels import get_decoder, iter_pixels
from pydicom.uid import UID, ImplicitVRLittleEndian

from medresnet3d.errors import DataError
from medresnet3d.io.dicom_elements import UNDEFINED, Header, PixelPlace
from medresnet3d.io.dicom_values import number, text

PIXEL_TAGS: list[Any] = [
    *("PixelData", "FloatPixelData", "DoubleFloatPixelData", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PhotometricInterpretation"),
    *("PlanarConfiguration", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
]
FLOAT_TYPES = {"FloatPixelData": "<f4", "DoubleFloatPixelData": "<f8"}
PREFERRED = "pyjpegls"
"""Decodes JPEG-LS in two thirds of the time that gdcm, which pydicom would ask first, takes."""
EXTRA = 'pip install "medresnet3d[gdcm]"'


def require_decoder(syntax: UID, name: str) -> None:
    """Refuse a compression that no installed decoder knows.

    Args:
        syntax: transfer syntax.
        name: of the file or series, for the message.

    Raises:
        DataError: naming the transfer syntax and what to install.
    """
    kind = f"{name}: the pixels are compressed as {syntax.name} ({syntax})"
    try:
        usable = get_decoder(syntax).is_available
    except NotImplementedError as error:
        advice = "convert the files first, for example with gdcmconv --raw"
        raise DataError(f"{kind}, for which there is no decoder; {advice}.") from error
    if not usable:
        raise DataError(f"{kind}, for which no decoder is installed; install the extra gdcm: {EXTRA}")


def frames(path: Path, dataset: Dataset, indices: Sequence[int]) -> Iterator[NDArray[Any]]:
    """Decode frames of a file.

    Args:
        path: the file.
        dataset: its header, as :func:`medresnet3d.io.dicom_elements.read_header` gives it.
        indices: 0-based frames, in the order wanted.

    Yields:
        Stored values of shape (rows, columns), or (rows, columns, samples) for colour, in native byte order. The array
        may be overwritten by the next one.

    Raises:
        DataError: if the pixel data are missing, cut short or damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield from _frames(path, dataset, indices)
    except (ValueError, RuntimeError, AttributeError, NotImplementedError, EOFError, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise DataError(f"{path}: the pixel data cannot be decoded ({reason}); copy the file again.") from error


def _frames(path: Path, dataset: Dataset, indices: Sequence[int]) -> Iterator[NDArray[Any]]:
    place = dataset.pixels if isinstance(dataset, Header) else None
    if place is None:
        whole = dcmread(path, force=True, specific_tags=PIXEL_TAGS)
        whole.file_meta.TransferSyntaxUID = whole.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)
        yield from iter_pixels(whole, raw=True, indices=indices)
    elif dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        yield from _encapsulated(path, dataset, place, indices)
    elif (dtype := _plain_type(dataset, place)) is not None:
        yield from _native(path, dataset, place, dtype, indices)
    else:
        yield from _decoded(path, dataset, place, indices)


def _plain_type(dataset: Dataset, place: PixelPlace) -> np.dtype[Any] | None:
    """Give the type of pixels that lie in the file as numpy would have them, or ``None`` for all others."""
    bits = int(number(dataset, "BitsAllocated") or 0)
    if number(dataset, "SamplesPerPixel") != 1 or place.length == UNDEFINED:
        return None
    if place.keyword in FLOAT_TYPES:
        return np.dtype(FLOAT_TYPES[place.keyword])
    if bits not in (8, 16, 32):
        return None
    return np.dtype(f"<{'i' if number(dataset, 'PixelRepresentation') else 'u'}{bits // 8}")


def _native(
    path: Path, dataset: Dataset, place: PixelPlace, dtype: np.dtype[Any], indices: Sequence[int]
) -> Iterator[NDArray[Any]]:
    plane = np.empty((int(number(dataset, "Rows") or 0), int(number(dataset, "Columns") or 0)), dtype)
    unused = 0
    if dtype.kind != "f":
        unused = 8 * dtype.itemsize - int(number(dataset, "BitsStored") or 8 * dtype.itemsize)
    with path.open("rb", buffering=0) as handle:
        for index in indices:
            if (index + 1) * plane.nbytes > place.length:
                raise ValueError(f"its {place.length} bytes do not contain {index + 1} frames of {plane.nbytes} bytes")
            handle.seek(place.offset + index * plane.nbytes)
            if handle.readinto(plane.data) < plane.nbytes:
                raise EOFError("the file is cut short")
            if unused > 0:  # the bits that are not stored may hold anything
                np.left_shift(plane, unused, out=plane)
                np.right_shift(plane, unused, out=plane)
            yield plane


def _encapsulated(path: Path, dataset: Dataset, place: PixelPlace, indices: Sequence[int]) -> Iterator[NDArray[Any]]:
    decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    return _decoded(path, dataset, place, indices, PREFERRED if PREFERRED in decoder.available_plugins else "")


def _decoded(
    path: Path, dataset: Dataset, place: PixelPlace, indices: Sequence[int], plugin: str = ""
) -> Iterator[NDArray[Any]]:
    with path.open("rb", buffering=0) as handle:
        handle.seek(place.offset)
        content = handle.read() if place.length == UNDEFINED else handle.read(place.length)
    options = _options(dataset, place)
    decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    for index in indices:
        try:
            plane, _ = decoder.as_array(content, index=index, raw=True, decoding_plugin=plugin, **options)
        except RuntimeError:
            if not plugin:
                raise
            plane, _ = decoder.as_array(content, index=index, raw=True, **options)
        yield plane


def _options(dataset: Dataset, place: PixelPlace) -> dict[str, Any]:
    """Give what pydicom's decoders need to know of the header."""
    options: dict[str, Any] = {
        "rows": int(number(dataset, "Rows") or 0),
        "columns": int(number(dataset, "Columns") or 0),
        "samples_per_pixel": int(number(dataset, "SamplesPerPixel") or 1),
        "bits_allocated": int(number(dataset, "BitsAllocated") or 0),
        "bits_stored": int(number(dataset, "BitsStored") or number(dataset, "BitsAllocated") or 0),
        "pixel_representation": int(number(dataset, "PixelRepresentation") or 0),
        "photometric_interpretation": text(dataset, "PhotometricInterpretation", "MONOCHROME2"),
        "planar_configuration": int(number(dataset, "PlanarConfiguration") or 0),
        "number_of_frames": int(number(dataset, "NumberOfFrames") or 1),
        "pixel_keyword": place.keyword,
        "pixel_vr": place.vr or "OW",
    }
    table, lengths = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    if table and lengths:
        options["extended_offsets"] = (table, lengths)
    return options
