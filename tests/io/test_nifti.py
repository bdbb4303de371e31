from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medresnet3d.errors import AmbiguousInputError, DataError, GeometryError
from medresnet3d.io import load

AFFINE = np.array([[-1.5, 0.2, 0, 10], [0.1, 2.0, 0.3, -20], [0, -0.2, 3.0, 30], [0, 0, 0, 1.0]])
VALUES = np.arange(120, dtype=np.int16).reshape(4, 5, 6)


def write(path: Path, array: Any = VALUES, affine: Any = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def patch(path: Path, offset: int, content: bytes) -> Path:
    """Overwrite bytes of an uncompressed file, past every check of the library that wrote it."""
    data = bytearray(path.read_bytes())
    data[offset : offset + len(content)] = content
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_native_values_type_and_order(tmp_path: Path, name: str, kind: Any) -> None:
    volume = load(write(tmp_path / name, VALUES.astype(kind)))
    assert np.array_equal(volume.array, VALUES)
    assert volume.array.dtype == kind
    assert volume.array.flags.f_contiguous
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)
    assert volume.warnings == ()
    assert volume.source.format == "nifti"
    assert volume.source.path == tmp_path / name


def test_nifti2_and_big_endian(tmp_path: Path) -> None:
    nib.save(nib.Nifti2Image(VALUES, AFFINE), tmp_path / "two.nii.gz")
    assert np.array_equal(load(tmp_path / "two.nii.gz").array, VALUES)
    image = nib.Nifti1Image(VALUES.astype(">i2"), AFFINE, nib.Nifti1Header(endianness=">"))
    nib.save(image, tmp_path / "big.nii")
    volume = load(tmp_path / "big.nii")
    assert np.array_equal(volume.array, VALUES)
    assert volume.array.dtype.isnative


def test_scaled_values(tmp_path: Path) -> None:
    image = nib.Nifti1Image(VALUES, AFFINE)
    image.header.set_slope_inter(1, 0)
    nib.save(image, tmp_path / "a.nii")
    path = patch(tmp_path / "a.nii", 112, np.array([0.5, -3.0], "<f4").tobytes())
    volume = load(path)
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array, VALUES * 0.5 - 3)
    opinion: Any = nib.load(path)
    np.testing.assert_allclose(volume.array, opinion.get_fdata())


def test_whole_intercept_keeps_integers(tmp_path: Path) -> None:
    path = patch(write(tmp_path / "a.nii"), 112, np.array([1.0, -1024.0], "<f4").tobytes())
    assert load(path).array.dtype == np.int16
    assert np.array_equal(load(path).array, VALUES - 1024)


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_truncated(tmp_path: Path, name: str, keep: float) -> None:
    path = write(tmp_path / name, np.random.default_rng(0).integers(0, 999, (20, 20, 20), dtype=np.int16))
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(DataError, match="damaged or cut short"):
        load(path)


def test_one_flipped_bit_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii.gz", np.random.default_rng(0).integers(0, 999, (20, 20, 20), dtype=np.int16))
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="damaged or cut short"):
        load(path)


@pytest.mark.parametrize("content", [b"no image at all", gzip.compress(b"no image at all", mtime=0), bytes(400)])
def test_other_content(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.nii.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.nii\.gz: the NIfTI file is damaged"):
        load(tmp_path / "a.nii.gz")


def test_trailing_axis_is_dropped(tmp_path: Path) -> None:
    volume = load(write(tmp_path / "a.nii", VALUES[..., None]))
    assert np.array_equal(volume.array, VALUES)
    assert "length one" in volume.warnings[0]


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_four_dimensions(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, np.stack([VALUES, VALUES + 1, VALUES + 2], -1))
    with pytest.raises(AmbiguousInputError, match=r"4 dimensions \(shape \(4, 5, 6, 3\)\).*--series N .* from 0 to 2"):
        load(path)
    with pytest.raises(AmbiguousInputError, match="there is no volume '3'"):
        load(path, "3")
    assert np.array_equal(load(path, "1").array, VALUES + 1)
    assert load(path, "2").shape == (4, 5, 6)


def test_five_dimensions(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"5 dimensions \(shape \(4, 5, 6, 2, 2\)\) where three are wanted"):
        load(write(tmp_path / "a.nii", np.stack([np.stack([VALUES] * 2, -1)] * 2, -1)))


def test_extensions_before_the_voxels(tmp_path: Path) -> None:
    image = nib.Nifti1Image(VALUES, AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"c" * 5000))
    nib.save(image, tmp_path / "a.nii.gz")
    volume = load(tmp_path / "a.nii.gz")
    assert np.array_equal(volume.array, VALUES)
    assert volume.source.header.extensions[0].get_content()[:5000] == b"c" * 5000


def test_absurd_size_is_refused_before_memory_is_asked_for(tmp_path: Path) -> None:
    path = patch(write(tmp_path / "a.nii"), 42, np.array([32000, 32000, 32000], "<i2").tobytes())
    with pytest.raises(DataError, match=r"damaged or cut short \(voxels of shape \(32000, 32000, 32000\) do not fit"):
        load(path)


def test_two_dimensions_become_one_slice(tmp_path: Path) -> None:
    assert load(write(tmp_path / "a.nii", VALUES[:, :, 0])).shape == (4, 5, 1)


def test_colour(tmp_path: Path) -> None:
    rgb = np.zeros((3, 3, 3), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(DataError, match="colour or complex"):
        load(write(tmp_path / "a.nii", rgb))


def test_no_sform_and_no_qform(tmp_path: Path) -> None:
    volume = load(patch(write(tmp_path / "a.nii"), 252, np.array([0, 0], "<i2").tobytes()))
    assert volume.spacing == pytest.approx(np.linalg.norm(AFFINE[:3, :3], axis=0))
    assert "neither sform nor qform" in volume.warnings[0]


def test_forms_that_disagree(tmp_path: Path) -> None:
    image = nib.Nifti1Image(VALUES, np.diag([1, 1, 2.0, 1]))
    image.set_qform(np.diag([-1, 1, 2.0, 1]), code=1)
    nib.save(image, tmp_path / "a.nii")
    volume = load(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.affine, np.diag([1, 1, 2.0, 1]))
    assert "disagree by more than half a voxel" in volume.warnings[0]


def test_qform_alone(tmp_path: Path) -> None:
    image = nib.Nifti1Image(VALUES, None)
    image.set_qform(np.diag([-1, 1, 2.0, 1]), code=1)
    image.set_sform(None, code=0)
    nib.save(image, tmp_path / "a.nii")
    volume = load(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.affine, np.diag([-1, 1, 2.0, 1]))
    assert volume.warnings == ()


@pytest.mark.parametrize("unit,factor", [("meter", 1000.0), ("micron", 0.001), ("mm", 1.0), ("unknown", 1.0)])
def test_units_become_millimetres(tmp_path: Path, unit: str, factor: float) -> None:
    image = nib.Nifti1Image(VALUES, AFFINE)
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii")
    volume = load(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.affine[:3], AFFINE[:3] * factor, rtol=1e-5, atol=1e-6)
    assert bool(volume.warnings) == (factor != 1.0)


def test_zero_spacing_in_pixdim(tmp_path: Path) -> None:
    path = patch(write(tmp_path / "a.nii"), 252, np.array([1, 0], "<i2").tobytes())
    patch(path, 84, np.array([0.0], "<f4").tobytes())
    with pytest.raises(GeometryError, match="voxel size along axis j is 0 mm"):
        load(path)


def test_zero_spacing_in_sform(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", affine=np.diag([1, 1, 2.0, 1]))
    patch(path, 280, np.zeros(4, "<f4").tobytes())  # the first row of the sform
    with pytest.raises(GeometryError, match="voxel size along axis i is 0 mm"):
        load(path)


def test_affine_that_cannot_be_inverted(tmp_path: Path) -> None:
    path = patch(write(tmp_path / "a.nii", affine=np.eye(4)), 280, np.array([1, 1, 0, 0] * 2, "<f4").tobytes())
    with pytest.raises(GeometryError, match="cannot be inverted"):
        load(path)
