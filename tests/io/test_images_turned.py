"""Photographs that lie on their side in the file: read upright in every format, exactly where the format allows it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from medresnet3d.io import load
from medresnet3d.io.reading import load_header

Pixels = NDArray[Any]

GREY = np.random.default_rng(0).permutation(200).reshape(10, 20).astype(np.uint8)
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)
SMOOTH = np.add.outer(np.arange(64), 3 * np.arange(48)).astype(np.uint8)
"""Survives JPEG."""
ORIENTATION = 274
LAID: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright.swapaxes(0, 1), 2),
    8: lambda upright: np.rot90(upright, -1),
}
"""How an upright picture lies in a file of each EXIF orientation."""


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def write_png(path: Path, laid: Pixels, orientation: int) -> None:
    if laid.ndim == 2 or laid.dtype == np.uint8:
        Image.fromarray(laid).save(path, exif=exif_of(orientation))
    else:
        insert_exif(path, laid, orientation, 33)  # after the mark and IHDR


def write_late_png(path: Path, laid: Pixels, orientation: int) -> None:
    insert_exif(path, laid, orientation, -12)  # before IEND


def insert_exif(path: Path, laid: Pixels, orientation: int, place: int) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(laid, isVector=laid.ndim == 3), str(path))
    body = b"eXIf" + exif_of(orientation).tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    whole = path.read_bytes()
    path.write_bytes(whole[:place] + chunk + whole[place:])


def write_jpeg(path: Path, laid: Pixels, orientation: int) -> None:
    Image.fromarray(laid).save(path, exif=exif_of(orientation), quality=95, subsampling=0)


def write_tiff(path: Path, laid: Pixels, orientation: int, **options: Any) -> None:
    photometric = "rgb" if laid.ndim == 3 else "minisblack"
    tag = (ORIENTATION, "H", 1, orientation, True)
    tifffile.imwrite(path, laid, photometric=photometric, extratags=[tag], **options)


def write_lzw(path: Path, laid: Pixels, orientation: int) -> None:
    """With the predictor of differences, as Photoshop writes it."""
    if laid.ndim == 2 or laid.dtype == np.uint8:
        Image.fromarray(laid).save(path, compression="tiff_lzw", tiffinfo={ORIENTATION: orientation, 317: 2})
        return
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(path))
    writer.UseCompressionOn()
    writer.SetCompressor("LZW")
    writer.Execute(sitk.GetImageFromArray(laid, isVector=True))
    with tifffile.TiffFile(path) as file:
        offset = file.pages.first.tags[ORIENTATION].valueoffset
    whole = bytearray(path.read_bytes())
    whole[offset : offset + 2] = struct.pack("<H", orientation)
    path.write_bytes(whole)


WRITERS: dict[str, Callable[[Path, Pixels, int], None]] = {
    "png": write_png,
    "late.png": write_late_png,
    "plain.tif": write_tiff,
    "deflate.tif": lambda *args: write_tiff(*args, compression="zlib", predictor=True),
    "strips.tif": lambda *args: write_tiff(*args, rowsperstrip=3),
    "tiled.tif": lambda *args: write_tiff(*args, tile=(16, 16)),
    "lzw.tif": write_lzw,
}


def check_upright(path: Path, upright: Pixels, orientation: int, tolerance: int = 0) -> None:
    volume, header = load(path), load_header(path)
    expected = upright.swapaxes(0, 1)[:, :, None]
    assert volume.array.dtype == upright.dtype
    assert volume.array.shape == expected.shape
    assert np.abs(volume.array.astype(int) - expected.astype(int)).max() <= tolerance
    assert header.array.shape == volume.array.shape
    assert header.array.dtype == volume.array.dtype
    told = " ".join(volume.warnings)
    assert ("upright" in told) == (orientation != 1)
    assert "transparency" not in told
    assert "8 bits" not in told


@pytest.mark.parametrize("orientation", LAID)
@pytest.mark.parametrize("upright", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", WRITERS)
def test_turned_photograph(tmp_path: Path, name: str, bits: int, upright: Pixels, orientation: int) -> None:
    if bits == 16:
        upright = upright.astype(np.uint16) * 257 + np.uint16(30)
    path = tmp_path / f"a.{name}"
    WRITERS[name](path, np.ascontiguousarray(LAID[orientation](upright)), orientation)
    check_upright(path, upright, orientation)


@pytest.mark.parametrize("orientation", LAID)
@pytest.mark.parametrize("upright", [SMOOTH, np.dstack([SMOOTH, SMOOTH, SMOOTH])], ids=["grey", "colour"])
def test_turned_jpeg(tmp_path: Path, upright: Pixels, orientation: int) -> None:
    path = tmp_path / "a.jpg"
    write_jpeg(path, np.ascontiguousarray(LAID[orientation](upright)), orientation)
    check_upright(path, upright, orientation, tolerance=3)


@pytest.mark.parametrize("orientation", [0, 9])
@pytest.mark.parametrize("bits", [8, 16])
def test_an_orientation_that_exif_does_not_know_says_nothing(tmp_path: Path, bits: int, orientation: int) -> None:
    upright = COLOUR if bits == 8 else COLOUR.astype(np.uint16) * 257
    for name in ("png", "plain.tif"):
        WRITERS[name](tmp_path / f"a.{name}", upright, orientation)
        check_upright(tmp_path / f"a.{name}", upright, 1)


def test_exif_as_text_of_png(tmp_path: Path) -> None:
    """As ImageMagick wrote it before PNG had a chunk for it."""
    data = exif_of(6).tobytes()
    text = PngInfo()
    text.add_text("Raw profile type exif", f"\nexif\n{len(data):8}\n{data.hex()}\n", zip=True)
    Image.fromarray(LAID[6](COLOUR)).save(tmp_path / "a.png", pnginfo=text)
    check_upright(tmp_path / "a.png", COLOUR, 6)


def test_each_page_is_turned_by_its_own_orientation_and_keeps_its_depth(tmp_path: Path) -> None:
    pages: list[Pixels] = [GREY, COLOUR.astype(np.uint16) * 257, COLOUR, GREY.astype(np.uint16) * 257]
    turns = [6, 8, 1, 5]
    for start in range(4):
        order = [(start + step) % 4 for step in range(4)]
        with tifffile.TiffWriter(tmp_path / "a.tif") as file:
            for one in order:
                tag = (ORIENTATION, "H", 1, turns[one], True)
                laid, photometric = LAID[turns[one]](pages[one]), "rgb" if pages[one].ndim == 3 else "minisblack"
                file.write(np.ascontiguousarray(laid), photometric=photometric, extratags=[tag], metadata=None)
        for place, one in enumerate(order):
            volume = load(tmp_path / "a.tif", str(place))
            assert volume.array.dtype == pages[one].dtype
            assert np.array_equal(volume.array[:, :, 0], pages[one].swapaxes(0, 1))
            assert ("upright" in " ".join(volume.warnings)) == (turns[one] != 1)
