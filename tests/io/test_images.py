from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from medresnet3d.errors import AmbiguousInputError, DataError, GeometryError
from medresnet3d.io import load, require_same_grid, save_like

GREY = np.random.default_rng(0).permutation(200).reshape(10, 20).astype(np.uint8)
"""Rows and columns."""
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)


def save(path: Path, pixels: Any, **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.tiff", "a.bmp", "a.pgm"])
def test_grey(tmp_path: Path, name: str) -> None:
    volume = load(save(tmp_path / name, GREY))
    assert volume.shape == volume.array.shape == (20, 10, 1)
    assert volume.channels == 1
    assert volume.array.dtype == np.uint8
    assert np.array_equal(volume.array[:, :, 0], GREY.T)
    assert volume.source.format == "image"
    assert np.array_equal(volume.affine, np.diag([-1.0, -1.0, 1.0, 1.0]))
    assert volume.warnings == ()


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
def test_colour(tmp_path: Path, name: str) -> None:
    volume = load(save(tmp_path / name, COLOUR))
    assert volume.array.shape == (20, 10, 1, 3)
    assert volume.shape == (20, 10, 1)
    assert volume.channels == 3
    assert np.array_equal(volume.array[:, :, 0], COLOUR.swapaxes(0, 1))


def test_place_is_that_of_itk(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", GREY)
    image = sitk.ReadImage(str(path))
    volume = load(path)
    assert volume.array[7, 3, 0] == image[7, 3]
    assert (volume.affine @ [7, 3, 0, 1])[:2] == pytest.approx(-np.array(image.TransformIndexToPhysicalPoint((7, 3))))


def test_jpeg(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(64), np.arange(48)).astype(np.uint8)
    volume = load(save(tmp_path / "a.JPG", smooth, quality=95))
    assert np.abs(volume.array[:, :, 0].astype(int) - smooth.T).max() <= 3


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits(tmp_path: Path, name: str) -> None:
    deep = GREY.astype(np.uint16) * 300
    volume = load(save(tmp_path / name, deep))
    assert volume.array.dtype == np.uint16
    assert np.array_equal(volume.array[:, :, 0], deep.T)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_of_colour(tmp_path: Path, name: str) -> None:
    deep = COLOUR.astype(np.uint16) * 300
    sitk.WriteImage(sitk.GetImageFromArray(deep, isVector=True), str(tmp_path / name))
    volume = load(tmp_path / name)
    assert volume.array.dtype == np.uint16
    assert np.array_equal(volume.array[:, :, 0], deep.swapaxes(0, 1))


def test_float_tiff(tmp_path: Path) -> None:
    volume = load(save(tmp_path / "a.tif", GREY.astype(np.float32) / 7))
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array[:, :, 0], GREY.T / 7, rtol=1e-6)


def test_label_picture_of_one_bit(tmp_path: Path) -> None:
    volume = load(save(tmp_path / "a.png", GREY > 100))
    assert np.array_equal(volume.array[:, :, 0], GREY.T > 100)


def test_palette_becomes_colour_or_grey(tmp_path: Path) -> None:
    image = Image.fromarray(GREY // 50)
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    image.save(tmp_path / "a.png")
    assert load(tmp_path / "a.png").array[0, 0, 0].tolist() in ([255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9])
    image.putpalette([0, 0, 0, 50, 50, 50, 90, 90, 90, 255, 255, 255])
    image.save(tmp_path / "b.png")
    grey = load(tmp_path / "b.png").array
    assert np.array_equal(grey[:, :, 0], np.array([0, 50, 90, 255])[GREY.T // 50])


def test_transparency_is_left_out_and_told(tmp_path: Path) -> None:
    volume = load(save(tmp_path / "a.png", np.dstack([COLOUR, GREY])))
    assert np.array_equal(volume.array[:, :, 0], COLOUR.swapaxes(0, 1))
    assert any("transparency" in text for text in volume.warnings)


def test_pages_are_chosen(tmp_path: Path) -> None:
    pages = [Image.fromarray(GREY + np.uint8(page)) for page in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(AmbiguousInputError, match=r"a\.tif: the file has 3 pages.*--series N .* from 0 to 2"):
        load(tmp_path / "a.tif")
    with pytest.raises(AmbiguousInputError, match="there is no page '3'"):
        load(tmp_path / "a.tif", "3")
    assert np.array_equal(load(tmp_path / "a.tif", "2").array[:, :, 0], GREY.T + 2)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.bmp"])
def test_other_content(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no picture at all" * 10)
    with pytest.raises(DataError, match="no picture that is known"):
        load(tmp_path / name)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.bmp"])
def test_cut_short(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"damaged or cut short|no picture that is known"):
        load(path)


def test_constant_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="every voxel has the value 9"):
        load(save(tmp_path / "a.png", np.full((5, 5, 3), 9, np.uint8)))


def test_colour_and_label_share_a_grid_and_labels_are_written(tmp_path: Path) -> None:
    colour = load(save(tmp_path / "a.png", COLOUR))
    label = load(save(tmp_path / "b.png", GREY // 100), constant_ok=True)
    require_same_grid(colour, label)
    (written,) = save_like(colour, label.array, tmp_path / "out")
    assert np.array_equal(load(written).array, label.array)
    with pytest.raises(GeometryError, match="does not fit"):
        colour.with_array(label.array[1:])
