"""Plain pictures in: PNG, JPEG, TIFF, BMP and PGM, grey or colour, as volumes of one slice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from tifffile import TiffFile, TiffFileError

from medresnet3d.errors import AmbiguousInputError, DataError
from medresnet3d.io.volume import LPS_TO_RAS, Source, Volume, stand_in

GREY_MODES = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L")
PNG_MARK = b"\x89PNG\r\n\x1a\n"
TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
UPRIGHT = 1
_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)  # rows and columns are exchanged
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, MemoryError, Image.DecompressionBombError, TiffFileError)


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
        Palettes become colour, or grey where they hold greys only; transparency is left out and a turned photograph is
        put upright, both with a warning.

    Raises:
        AmbiguousInputError: if the file has several pages and ``page`` names none of them.
        DataError: if the file is damaged or no picture.
    """
    warnings: list[str] = []
    with _damage_in_words(path):
        pixels = _deep_colour(path) if _is_deep_colour(path) else _opened(path, page, warnings)
    array = pixels.swapaxes(0, 1)[:, :, None]
    return Volume(array, LPS_TO_RAS @ np.eye(4), None, tuple(warnings), Source(path, (path,), "image"))


def read_image_header(path: Path) -> Volume:
    """Read the size of a picture; the array of the volume is a stand-in without memory.

    Raises:
        AmbiguousInputError: if the file has several pages.
        DataError: if the file is no picture.
    """
    with _damage_in_words(path):
        deep = _is_deep_colour(path)
        if deep and path.suffix.lower() in (".tif", ".tiff"):
            with TiffFile(path) as file:
                page = file.pages.first
                columns, rows, channels = page.imagewidth, page.imagelength, 3
        else:
            with Image.open(path) as image:
                _turn_to(image, None, path)
                columns, rows = image.size
                channels = 1 if image.mode in (*GREY_MODES, "LA", "La") else 3
                if _orientation(image) in _TURNED:
                    columns, rows = rows, columns
                deep = deep or image.mode.startswith("I")
    shape = (columns, rows, 1) if channels == 1 else (columns, rows, 1, channels)
    array = stand_in(shape, np.uint16 if deep else np.uint8)
    return Volume(array, LPS_TO_RAS @ np.eye(4), None, (), Source(path, (path,), "image"))


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; asking a PNG file that has none for its EXIF would decode it."""
    if image.format == "PNG" and "exif" not in image.info:
        return UPRIGHT
    return int(image.getexif().get(_ORIENTATION, UPRIGHT))


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


def _opened(path: Path, page: str | None, warnings: list[str]) -> NDArray[Any]:
    with Image.open(path) as image:
        _turn_to(image, page, path)
        return _pixels(image, warnings)


def _turn_to(image: Image.Image, page: str | None, path: Path) -> None:
    pages = getattr(image, "n_frames", 1)
    if pages == 1:
        return
    if page is None or not page.isdecimal() or int(page) >= pages:
        fault = "one has to be chosen" if page is None else f"there is no page {page!r}"
        raise AmbiguousInputError(
            f"{path}: the file has {pages} pages, so {fault}; choose one with --series N (series='N' in Python), "
            f"N from 0 to {pages - 1}."
        )
    image.seek(int(page))


def _is_deep_colour(path: Path) -> bool:
    """Tell colour of 16 bits, of which Pillow would drop the lower eight (PNG) or all (TIFF)."""
    with path.open("rb") as handle:
        start = handle.read(26)
    if start[:8] == PNG_MARK:
        return start[24:25] == b"\x10" and start[25:26] in (b"\x02", b"\x06")
    return start[:4] in TIFF_MARKS and _is_deep_tiff(path)


def _is_deep_tiff(path: Path) -> bool:
    with TiffFile(path) as file:
        page = file.pages.first
        return page.samplesperpixel > 1 and page.bitspersample > 8


def _deep_colour(path: Path) -> NDArray[Any]:
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise ValueError(str(error).splitlines()[-1].strip()) from error
    if image.GetDimension() == 3:
        if image.GetDepth() > 1:
            raise ValueError("several pages of 16-bit colour are not supported")
        image = image[:, :, 0]
    return sitk.GetArrayFromImage(image)[..., :3]


def _pixels(image: Image.Image, warnings: list[str]) -> NDArray[Any]:
    """Give pixels of shape (rows, columns) or (rows, columns, 3)."""
    if _orientation(image) != UPRIGHT:
        warnings.append("The photograph was put upright, as its EXIF orientation says.")
        image = ImageOps.exif_transpose(image)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa", "RGBX") or "transparency" in image.info:
        warnings.append("The transparency of the image was left out.")
    if image.mode in GREY_MODES:
        return np.asarray(image)
    if image.mode in ("LA", "La"):
        return np.asarray(image.convert("L"))
    colour = np.asarray(image.convert("RGB"))
    if image.mode in ("P", "PA") and (colour == colour[..., :1]).all():
        return colour[..., 0]
    return colour
