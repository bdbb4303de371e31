"""Plain pictures in: PNG, JPEG, TIFF, BMP and PGM, grey or colour, as volumes of one slice."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from tifffile import TiffFileError

from medresnet3d.errors import DataError
from medresnet3d.io.deep_colour import CUT, deep_tiff_layout, depth_of, png_chunk, read_deep_png, read_deep_tiff
from medresnet3d.io.image_pages import (
    NO_TRANSPARENCY,
    ORIENTATION,
    PUT_UPRIGHT,
    UPRIGHT,
    chosen_page,
    known_orientation,
    upright_size,
)
from medresnet3d.io.volume import LPS_TO_RAS, Source, Volume, stand_in

GREY_MODES = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L")
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    TiffFileError,
)


def read_image(path: Path, page: str | None = None) -> Volume:
    """Read a PNG, JPEG, TIFF, BMP or PGM file.

    Args:
        path: the file.
        page: which page of a TIFF file of several pages, as text or number from 0; ignored for others.

    Returns:
        A volume of one slice: array of shape (columns, rows, 1) for grey images, or (columns, rows, 1, 3) for colour
        ones (red, green, blue), in the file's own type (uint8, uint16, int32 or float32; bool for images of one bit).
        Nothing is known of the place in a patient, nor of the size of a pixel: columns run to the left, rows to the
        back, and pixels have the edge 1, which is no millimetre; answers and reports of a picture count pixels.
        Palettes become colour, or grey where they hold greys only; transparency is left out, a turned photograph is
        put upright, and the few kinds of 16-bit colour that cannot be read whole are cut to 8 bits, all with a warning.

    Raises:
        AmbiguousInputError: if the file has several pages and ``page`` names none of them.
        DataError: if the file is damaged or no picture.
    """
    warnings: list[str] = []
    with _damage_in_words(path):
        pixels = _read(path, page, warnings)
    array = pixels.swapaxes(0, 1)[:, :, None]
    return Volume(array, LPS_TO_RAS @ np.eye(4), None, tuple(warnings), Source(path, (path,), "image"))


def read_image_header(path: Path) -> Volume:
    """Read the size of a picture; the array of the volume is a stand-in without memory.

    Raises:
        AmbiguousInputError: if the file has several pages.
        DataError: if the file is no picture.
    """
    with _damage_in_words(path):
        (columns, rows), channels, kind = _layout(path)
    shape = (columns, rows, 1) if channels == 1 else (columns, rows, 1, channels)
    array = stand_in(shape, kind)
    return Volume(array, LPS_TO_RAS @ np.eye(4), None, (), Source(path, (path,), "image"))


def _layout(path: Path) -> tuple[tuple[int, int], int, np.dtype[Any]]:
    """Give (columns, rows) of the upright picture, its channels and its type."""
    depth = depth_of(path, None)
    if depth == "deep tiff":
        return deep_tiff_layout(path)
    with _opened(path, None) as image:
        deep = depth == "deep png" or image.mode.startswith("I")
        channels = 1 if image.mode in (*GREY_MODES, "LA", "La") else 3
        # Pillow gives the upright size of a TIFF file, but that of the file for all others.
        orientation = UPRIGHT if image.format == "TIFF" else _orientation(image, path)
        return upright_size(*image.size, orientation), channels, np.dtype(np.uint16 if deep else np.uint8)


def _orientation(image: Image.Image, path: Path) -> int:
    """The EXIF orientation; asking Pillow for the EXIF of a PNG file may decode the whole picture."""
    exif = image.getexif() if image.format != "PNG" or "Raw profile type exif" in image.info else Image.Exif()
    if image.format == "PNG" and (chunk := png_chunk(path, b"eXIf")):
        exif.load(chunk)
    return known_orientation(exif.get(ORIENTATION, UPRIGHT))


@contextmanager
def _damage_in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: the content is no picture that is known; check the file extension.") from error
    except DataError:
        raise
    except _DAMAGE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise DataError(f"{path}: the picture is damaged or cut short ({reason}); copy it again.") from error


def _read(path: Path, page: str | None, warnings: list[str]) -> NDArray[Any]:
    """Give upright pixels of shape (rows, columns) or (rows, columns, 3)."""
    depth = depth_of(path, page)
    if depth == "deep tiff":
        return read_deep_tiff(path, page, warnings)
    if depth == "cut":
        warnings.append(CUT)
    with _opened(path, page) as image:
        orientation = _orientation(image, path)
        if depth == "deep png":
            return read_deep_png(path, orientation, warnings)
        if orientation != UPRIGHT:
            warnings.append(PUT_UPRIGHT)
            image = ImageOps.exif_transpose(image)
        return _pixels(image, warnings)


@contextmanager
def _opened(path: Path, page: str | None) -> Iterator[Image.Image]:
    """Open from a handle: given a path, Pillow maps a plain TIFF file to memory, with rows of the upright length."""
    with path.open("rb") as handle, Image.open(handle) as image:
        _turn_to(image, page, path)
        yield image


def _turn_to(image: Image.Image, page: str | None, path: Path) -> None:
    number = chosen_page(getattr(image, "n_frames", 1), page, path)
    if number:
        image.seek(number)


def _pixels(image: Image.Image, warnings: list[str]) -> NDArray[Any]:
    """Give pixels of shape (rows, columns) or (rows, columns, 3)."""
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa", "RGBX") or "transparency" in image.info:
        warnings.append(NO_TRANSPARENCY)
    if image.mode in GREY_MODES:
        return np.asarray(image)
    if image.mode in ("LA", "La"):
        return np.asarray(image.convert("L"))
    colour = np.asarray(image.convert("RGB"))
    if image.mode in ("P", "PA") and (colour == colour[..., :1]).all():
        return colour[..., 0]
    return colour
