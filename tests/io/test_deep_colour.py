"""Colour of 16 bits a channel: read whole wherever it can be, and told where it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
from PIL import Image

from medresnet3d.errors import AmbiguousInputError, DataError
from medresnet3d.io import load
from medresnet3d.io.reading import load_header

GREY = np.random.default_rng(0).permutation(800).reshape(20, 40).astype(np.uint16) * 80 + 17
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)
ALPHA = np.dstack([COLOUR, GREY])
LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "strips": {"rowsperstrip": 3},
    "tiled": {"tile": (16, 16)},
    "planar": {"planarconfig": "separate"},
    "planar tiles": {"planarconfig": "separate", "tile": (16, 16), "compression": "zlib", "predictor": True},
    "big endian": {"byteorder": ">", "bigtiff": True},
}


def write(path: Path, pixels: np.ndarray[Any, Any], **options: Any) -> Path:
    planar = options.get("planarconfig") == "separate"
    tifffile.imwrite(path, np.moveaxis(pixels, -1, 0) if planar else pixels, **{"photometric": "rgb"} | options)
    return path


def read(path: Path) -> tuple[np.ndarray[Any, Any], str]:
    """Give rows and columns of a picture, whose header agrees with it, and all its warnings."""
    volume, header = load(path), load_header(path)
    assert header.array.shape == volume.array.shape
    assert header.array.dtype == volume.array.dtype
    return volume.array[:, :, 0].swapaxes(0, 1), " ".join(volume.warnings)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_tiff_keeps_its_bits(tmp_path: Path, layout: str) -> None:
    pixels, told = read(write(tmp_path / "a.tif", COLOUR, **LAYOUTS[layout]))
    assert np.array_equal(pixels, COLOUR)
    assert pixels.dtype == np.uint16
    assert told == ""


@pytest.mark.parametrize("layout", LAYOUTS)
def test_transparency_is_left_out_and_told(tmp_path: Path, layout: str) -> None:
    pixels, told = read(write(tmp_path / "a.tif", ALPHA, extrasamples=["unassalpha"], **LAYOUTS[layout]))
    assert np.array_equal(pixels, COLOUR)
    assert "transparency" in told


def test_transparency_of_png_is_left_out_and_told(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(ALPHA, isVector=True), str(tmp_path / "a.png"))
    pixels, told = read(tmp_path / "a.png")
    assert np.array_equal(pixels, COLOUR)
    assert "transparency" in told


def test_transparency_of_grey_is_left_out_and_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", ALPHA[..., :2], photometric="minisblack", extrasamples=["unassalpha"])
    pixels, told = read(path)
    assert np.array_equal(pixels, GREY)
    assert "transparency" in told


def test_grey_png_with_transparency_is_told_to_be_cut_to_8_bits(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(ALPHA[..., :2], isVector=True), str(tmp_path / "a.png"))
    pixels, told = read(tmp_path / "a.png")
    assert all(np.array_equal(pixels[..., channel], GREY >> 8) for channel in range(3))
    assert "only 8 bits" in told
    assert "transparency" in told


@pytest.mark.parametrize("layout", ["plain", "planar"])
def test_cmyk_is_reckoned_as_that_of_8_bits(tmp_path: Path, layout: str) -> None:
    inks = np.dstack([COLOUR, GREY // 3])
    pixels, told = read(write(tmp_path / "a.tif", inks, photometric="separated", **LAYOUTS[layout]))
    eight = Image.fromarray(np.rint(inks / 257).astype(np.uint8), "CMYK").convert("RGB")
    assert pixels.dtype == np.uint16
    assert np.abs(pixels / 257 - np.asarray(eight, float)).max() < 2
    assert told == ""


def test_colours_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"kind CIELAB with more than 8 bits cannot be read; save it as RGB"):
        load(write(tmp_path / "a.tif", COLOUR, photometric="cielab"))


def test_what_only_pillow_unpacks_is_told_to_be_cut_to_8_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles packed by deflate stand for tiles packed by LZW, which nothing here writes."""
    path = write(tmp_path / "a.tif", COLOUR, tile=(16, 16), compression="zlib", extratags=[(274, "H", 1, 6, True)])
    monkeypatch.setattr(tifffile.TIFF, "DECOMPRESSORS", {1: None})
    pixels, told = read(path)
    assert np.array_equal(pixels, np.rot90(COLOUR >> 8, -1))
    assert "only 8 bits" in told
    assert "upright" in told


def test_grey_with_transparency_in_a_packing_that_nothing_unpacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"photometric": "minisblack", "extrasamples": ["unassalpha"], "compression": "zlib"}
    path = write(tmp_path / "a.tif", ALPHA[..., :2], **options)
    monkeypatch.setattr(tifffile.TIFF, "DECOMPRESSORS", {1: None})
    for reader in (load, load_header):
        with pytest.raises(DataError, match=r"packed by ADOBE_DEFLATE can be read as RGB or CMYK only; save it"):
            reader(path)


def test_pages_are_chosen(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page in range(3):
            file.write(COLOUR + np.uint16(page), photometric="rgb")
    for reader in (load, load_header):
        with pytest.raises(AmbiguousInputError, match="the file has 3 pages"):
            reader(tmp_path / "a.tif")
    assert np.array_equal(load(tmp_path / "a.tif", "2").array[:, :, 0], COLOUR.swapaxes(0, 1) + 2)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kept", [100, 0.5, 0.9])
def test_cut_short(tmp_path: Path, layout: str, kept: float) -> None:
    path = write(tmp_path / "a.tif", COLOUR, **LAYOUTS[layout])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if kept < 1 else int(kept)])
    with pytest.raises(DataError, match=r"damaged or cut short|no picture that is known"):
        load(path)
