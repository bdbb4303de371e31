from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medresnet3d.errors import AmbiguousInputError, DataError, GeometryError
from medresnet3d.io import load, save_like

VALUES = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
SIZES = (1.0, 1.25, 2.0)


def write(path: Path, array: Any = VALUES, *, order: str = ">", orient: int = 0, sizes: Any = SIZES) -> Path:
    """Write an Analyze 7.5 pair byte by byte, as its definition says."""
    shape = [*array.shape, *[1] * (7 - array.ndim)]
    header = bytearray(348)
    struct.pack_into(f"{order}i", header, 0, 348)
    struct.pack_into(f"{order}8h", header, 40, array.ndim, *shape)
    struct.pack_into(f"{order}hh", header, 70, 4, 16)
    struct.pack_into(f"{order}4f", header, 76, 0, *sizes)
    header[252] = orient
    path.with_suffix(".hdr").write_bytes(bytes(header))
    path.write_bytes(array.astype(f"{order}i2").tobytes(order="F"))
    return path


@pytest.mark.parametrize("order", [">", "<"])
def test_values_size_and_order_of_both_byte_orders(tmp_path: Path, order: str) -> None:
    volume = load(write(tmp_path / "a.img", order=order))
    assert np.array_equal(volume.array, VALUES) and volume.array.dtype == np.int16
    assert volume.spacing == SIZES
    assert any("does not place the image in space" in text for text in volume.warnings)
    assert np.array_equal(load(tmp_path / "a.hdr").array, VALUES)


@pytest.mark.parametrize(("orient", "axes"), [(0, "LAS"), (1, "LSA"), (2, "ASL"), (77, "LAS")])
def test_the_orient_byte_names_the_axes_and_the_middle_is_the_origin(tmp_path: Path, orient: int, axes: str) -> None:
    volume = load(write(tmp_path / "a.img", orient=orient))
    assert "".join(nib.orientations.aff2axcodes(volume.affine)) == axes
    middle = nib.affines.apply_affine(volume.affine, (np.array(volume.shape) - 1) / 2)
    np.testing.assert_allclose(middle, 0, atol=1e-12)
    assert any("orientation 77" in text for text in volume.warnings) == (orient == 77)


def test_a_fourth_axis_of_one_is_dropped_and_a_longer_one_asks(tmp_path: Path) -> None:
    assert load(write(tmp_path / "a.img", VALUES[..., None])).shape == (3, 4, 5)
    path = write(tmp_path / "b.img", np.stack([VALUES, VALUES + 7], axis=3))
    with pytest.raises(AmbiguousInputError, match="4 dimensions"):
        load(path)
    assert np.array_equal(load(path, series="1").array, VALUES + 7)


def test_a_nifti_pair_keeps_its_own_place(tmp_path: Path) -> None:
    affine = np.array([[2.0, 0, 0, 7], [0, 3, 0, -5], [0, 0, 4, 1], [0, 0, 0, 1]])
    nib.nifti1.Nifti1Pair(VALUES, affine).to_filename(tmp_path / "a.img")
    volume = load(tmp_path / "a.img")
    np.testing.assert_allclose(volume.affine, affine)
    assert volume.warnings == ()


def test_a_result_is_written_as_nifti_on_the_same_grid(tmp_path: Path) -> None:
    volume = load(write(tmp_path / "a.img", orient=2))
    (path,) = save_like(volume, volume.array > 9, tmp_path / "mask")
    np.testing.assert_allclose(load(path).affine, volume.affine, atol=1e-5)


def test_a_dicom_file_may_be_called_img(tmp_path: Path) -> None:
    from medresnet3d.data.phantoms.dicom import write_dicom_series

    files = write_dicom_series(tmp_path / "series", VALUES, np.eye(4))
    shutil.copy(files[0], tmp_path / "a.img")
    assert load(tmp_path / "a.img").source.format == "dicom"


@pytest.mark.parametrize("half", [".img", ".hdr"])
def test_half_a_pair(tmp_path: Path, half: str) -> None:
    write(tmp_path / "a.img").with_suffix(half).unlink()
    with pytest.raises(DataError, match=f"a{half}, is missing; copy it beside"):
        load(tmp_path / ("a.hdr" if half == ".img" else "a.img"))


def test_damage_in_words(tmp_path: Path) -> None:
    path = write(tmp_path / "a.img")
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match="112 of 120 bytes of voxels"):
        load(path)
    path.with_suffix(".hdr").write_bytes(b"\0" * 100)
    with pytest.raises(DataError, match="100 of 348 bytes of header"):
        load(path)
    with pytest.raises(GeometryError, match="voxel size along axis j is 0"):
        load(write(tmp_path / "b.img", sizes=(1, 0, 1)))
