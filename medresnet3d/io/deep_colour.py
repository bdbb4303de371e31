"""Colour of more than 8 bits a channel, of which Pillow would drop the lower bits.

PNG is read by SimpleITK, TIFF by tifffile; LZW, for which tifffile needs another package, by SimpleITK.
"""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, cast

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from tifffile import PHOTOMETRIC, PLANARCONFIG, TIFF, TiffFile, TiffPage

from medresnet3d.errors import DataError
from medresnet3d.io.image_pages import (
    NO_TRANSPARENCY,
    ORIENTATION,
    UPRIGHT,
    chosen_page,
    known_orientation,
    put_upright,
    upright_size,
)

PNG_MARK = b"\x89PNG\r\n\x1a\n"
TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
CUT = "The picture has more than 8 bits a channel, stored in a way of which only 8 bits can be read."
_LZW = 5

Depth = Literal["plain", "deep png", "deep tiff", "cut"]


def depth_of(path: Path, number: str | None) -> Depth:
    """Tell how a picture, or the page of this number, has to be read.

    Returns:
        ``"deep png"`` or ``"deep tiff"`` for colour of more than 8 bits, ``"cut"`` for such colour of which only 8 bits
        can be read, and ``"plain"`` for all else.

    Raises:
        AmbiguousInputError: if a TIFF file has several pages and ``number`` names none of them.
        DataError: if such colour cannot be read at all.
    """
    with path.open("rb") as handle:
        start = handle.read(26)
    if start[:8] == PNG_MARK:
        kinds: dict[bytes, Depth] = {b"\x10\x02": "deep png", b"\x10\x06": "deep png", b"\x10\x04": "cut"}
        return kinds.get(start[24:26], "plain")
    return _depth_of_tiff(path, number) if start[:4] in TIFF_MARKS else "plain"


def _depth_of_tiff(path: Path, number: str | None) -> Depth:
    with TiffFile(path) as file:
        page = _page(file, chosen_page(len(file.pages), number, path))
        if page.samplesperpixel == 1 or page.bitspersample <= 8:
            return "plain"
        itk_can = len(file.pages) == 1 and _is_lzw_for_itk(page)
        if page.compression in TIFF.DECOMPRESSORS or itk_can:
            return "deep tiff"
        if page.photometric in (PHOTOMETRIC.RGB, PHOTOMETRIC.SEPARATED):
            return "cut"
        packing = getattr(page.compression, "name", page.compression)
    raise DataError(
        f"{path}: channels of more than 8 bits that are packed by {packing} can be read as RGB or CMYK only; save it "
        "unpacked or packed by deflate."
    )


def _is_lzw_for_itk(page: TiffPage) -> bool:
    usual = page.photometric == PHOTOMETRIC.RGB and page.planarconfig == PLANARCONFIG.CONTIG and not page.is_tiled
    return usual and page.compression == _LZW


def png_chunk(path: Path, kind: bytes) -> bytes:
    """Give the content of the first chunk of a kind, wherever it stands in a PNG file; nothing if there is none."""
    with path.open("rb") as handle:
        handle.seek(len(PNG_MARK))
        while len(head := handle.read(8)) == 8:
            size = int.from_bytes(head[:4], "big")
            if head[4:] == kind:
                return handle.read(size)
            handle.seek(size + 4, 1)
    return b""


def read_deep_png(path: Path, orientation: int, warnings: list[str]) -> NDArray[Any]:
    """Give upright pixels of shape (rows, columns, 3); what is left out or turned is added to ``warnings``."""
    pixels = _by_itk(path)
    if pixels.shape[-1] > 3:
        warnings.append(NO_TRANSPARENCY)
    return put_upright(pixels[..., :3], orientation, warnings)


def read_deep_tiff(path: Path, number: str | None, warnings: list[str]) -> NDArray[Any]:
    """Give upright pixels of shape (rows, columns) or (rows, columns, 3) of one page.

    Raises:
        AmbiguousInputError: if the file has several pages and ``number`` names none of them.
        DataError: if the colours are neither RGB, CMYK nor grey.
    """
    with TiffFile(path) as file:
        page = _page(file, chosen_page(len(file.pages), number, path))
        pixels = page.asarray() if page.compression in TIFF.DECOMPRESSORS else _lzw_by_itk(path, page)
        pixels = pixels.reshape(page.shape)
        if page.axes.startswith("S"):
            pixels = np.moveaxis(pixels, 0, -1)
        return put_upright(_light(pixels, page, path, warnings), _orientation(page), warnings)


def deep_tiff_layout(path: Path) -> tuple[tuple[int, int], int, np.dtype[Any]]:
    """Give (columns, rows) of the upright picture, its channels and its type.

    Raises:
        AmbiguousInputError: if the file has several pages.
    """
    with TiffFile(path) as file:
        page = _page(file, chosen_page(len(file.pages), None, path))
        if page.dtype is None:
            raise DataError(f"{path}: the numbers of the picture are of no known kind; save it again with 16 bits.")
        size = upright_size(page.imagewidth, page.imagelength, _orientation(page))
        return size, 1 if page.samplesperpixel <= 2 else 3, page.dtype


def _page(file: TiffFile, number: int) -> TiffPage:
    return cast(TiffPage, file.pages[number])


def _orientation(page: TiffPage) -> int:
    return known_orientation(page.tags.valueof(ORIENTATION, UPRIGHT))


def _light(pixels: NDArray[Any], page: TiffPage, path: Path, warnings: list[str]) -> NDArray[Any]:
    """Take pixels of shape (rows, columns, samples) to grey or red, green and blue."""
    kind, samples = page.photometric, page.samplesperpixel
    if kind not in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB, PHOTOMETRIC.SEPARATED):
        name = getattr(kind, "name", kind)
        raise DataError(f"{path}: colours of the kind {name} with more than 8 bits cannot be read; save it as RGB.")
    inks = 4 if kind == PHOTOMETRIC.SEPARATED else 1 if samples <= 2 else 3
    if samples > inks:
        warnings.append(NO_TRANSPARENCY)
    if inks == 1:
        return pixels[..., 0] if samples == 2 else pixels
    return _rgb_of_cmyk(pixels) if inks == 4 else pixels[..., :3]


def _rgb_of_cmyk(pixels: NDArray[Any]) -> NDArray[Any]:
    """Reckon as Pillow does for 8 bits: what an ink lets through, times what black lets through."""
    top = float(np.iinfo(pixels.dtype).max) if pixels.dtype.kind in "iu" else 1.0
    result = np.empty((*pixels.shape[:2], 3), pixels.dtype)
    through = (top - pixels[..., 3]) / top
    for ink in range(3):
        light = (top - pixels[..., ink]) * through
        result[..., ink] = np.rint(light) if pixels.dtype.kind in "iu" else light
    return result


def _lzw_by_itk(path: Path, page: TiffPage) -> NDArray[Any]:
    """Read a copy that is marked as upright, as ITK cuts turned pictures to 8 bits."""
    tag = page.tags.get(ORIENTATION)
    if tag is None or tag.value == UPRIGHT:
        return _by_itk(path)
    with TemporaryDirectory() as folder:
        copy = Path(folder, "upright.tif")
        shutil.copyfile(path, copy)
        with copy.open("r+b") as handle:
            handle.seek(tag.valueoffset)
            handle.write(struct.pack(f"{page.parent.byteorder}H", UPRIGHT))
        return _by_itk(copy)


def _by_itk(path: Path) -> NDArray[Any]:
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise ValueError(str(error).splitlines()[-1].strip()) from error
    pixels = sitk.GetArrayFromImage(image)
    return pixels[0] if image.GetDimension() == 3 else pixels
