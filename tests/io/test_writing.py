from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st

from medresnet3d.errors import ConfigError, DataError, GeometryError
from medresnet3d.io import Volume, load, read_dicom_seg, same_grid, save_itk, save_like, save_nifti
from medresnet3d.io.writing import compact
from tests.io.dicom_maker import OBLIQUE, Series, stored_values

VALUES = stored_values()
AFFINE = np.array([[-1.5, 0.2, 0, 10], [0.1, 2.0, 0.3, -20], [0, -0.2, 3.0, 30], [0, 0, 0, 1.0]])
MASK = (VALUES % 3).astype(np.int64)


@pytest.mark.parametrize(
    "values,kind",
    [
        (np.array([True]), np.uint8),
        (np.array([0, 255]), np.uint8),
        (np.array([0, 256]), np.uint16),
        (np.array([-1, 5]), np.int16),
        (np.array([-1, 70000]), np.int32),
        (np.array([0.5], np.float16), np.float32),
        (np.array([0.5], np.float64), np.float64),
    ],
)
def test_compact_type(values: np.ndarray, kind: Any) -> None:
    assert compact(values).dtype == kind
    assert np.array_equal(compact(values), values)


def test_values_that_cannot_be_stored() -> None:
    with pytest.raises(DataError, match="32 bits"):
        compact(np.array([2**40]))
    with pytest.raises(DataError, match="complex128 cannot be written"):
        compact(np.array([1j]))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_nifti_round_trip(tmp_path: Path, name: str) -> None:
    path = save_nifti(MASK, AFFINE, tmp_path / "new" / name)
    volume = load(path)
    assert np.array_equal(volume.array, MASK)
    assert volume.array.dtype == np.uint8
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)
    assert volume.warnings == ()
    assert [file.name for file in path.parent.iterdir()] == [name]


def test_nifti_lies_the_same_for_simpleitk(tmp_path: Path) -> None:
    affine = np.diag([-0.5, 2.0, 3.0, 1.0])
    affine[:3, 3] = (10, 20, 30)
    image = sitk.ReadImage(str(save_nifti(VALUES, affine, tmp_path / "a.nii.gz")))
    x, y, z = image.TransformIndexToPhysicalPoint((1, 2, 3))
    np.testing.assert_allclose([-x, -y, z], (affine @ [1, 2, 3, 1])[:3], atol=1e-4)
    assert image.GetPixel(1, 2, 3) == VALUES[1, 2, 3]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, np.float64])
def test_file_is_the_one_that_nibabel_writes(tmp_path: Path, kind: Any, order: Any) -> None:
    values = np.asarray(np.random.default_rng(0).normal(0, 90, (40, 30, 20)).clip(-100, 200), kind, order)
    values[0, 0, :2] = [0, 1]
    image = nib.Nifti1Image(values, np.diag([-1.0, 2.0, 3.0, 1.0]))
    image.header.set_xyzt_units("mm")
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=1)
    written = save_nifti(values, np.asarray(image.affine), tmp_path / "a.nii")
    assert written.read_bytes() == image.to_bytes()
    packed = save_nifti(values, np.asarray(image.affine), tmp_path / "a.nii.gz")
    assert gzip.decompress(packed.read_bytes()) == image.to_bytes()


def test_equal_voxels_give_equal_bytes(tmp_path: Path) -> None:
    first = save_nifti(MASK, AFFINE, tmp_path / "a.nii.gz").read_bytes()
    assert first == save_nifti(MASK, AFFINE, tmp_path / "b.nii.gz").read_bytes()


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    angles=st.tuples(*[st.floats(-3, 3)] * 2),
    spacing=st.tuples(*[st.floats(0.1, 9)] * 3),
    name=st.sampled_from(["a.nii.gz", "a.mha", "a.nrrd"]),
)
def test_any_grid_survives(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int, int],
    angles: tuple[float, float],
    spacing: tuple[float, float, float],
    name: str,
) -> None:
    (c, s), (d, t) = ((np.cos(angle), np.sin(angle)) for angle in angles)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, d, -t], [0, t, d]])
    affine[:3, :3] *= spacing
    affine[:3, 3] = (-7, 8, 9)
    truth = Volume(np.arange(np.prod(shape), dtype=np.uint8).reshape(shape), affine)
    save = save_nifti if name.endswith("gz") else save_itk
    volume = load(save(truth.array, affine, tmp_path_factory.mktemp("grid") / name), constant_ok=True)
    assert np.array_equal(volume.array, truth.array)
    assert same_grid(volume, truth, tolerance=1e-3)


def test_nifti_like_nifti_keeps_every_geometry_field(tmp_path: Path) -> None:
    image = nib.Nifti1Image(VALUES, AFFINE)
    image.set_qform(AFFINE, code=1)
    image.set_sform(AFFINE, code=4)
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "scan.nii.gz")
    scan = load(tmp_path / "scan.nii.gz")
    written: Any = nib.load(save_nifti(MASK, scan.affine, tmp_path / "mask.nii.gz", like=scan))
    header = written.header
    for name in ("sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x", "xyzt_units"):
        assert np.array_equal(header[name], scan.source.header[name]), name
    assert np.array_equal(header["pixdim"][:4], scan.source.header["pixdim"][:4])
    assert header.get_data_dtype() == np.uint8
    assert same_grid(load(tmp_path / "mask.nii.gz"), scan, tolerance=1e-6)


def test_like_with_other_affine_uses_the_given_one(tmp_path: Path) -> None:
    scan = load(save_nifti(VALUES, AFFINE, tmp_path / "scan.nii"))
    shifted = AFFINE.copy()
    shifted[0, 3] = 99
    assert load(save_nifti(MASK, shifted, tmp_path / "mask.nii", like=scan)).affine[0, 3] == pytest.approx(99)


def test_unusable_requests(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must be called \.nii or \.nii\.gz"):
        save_nifti(MASK, AFFINE, tmp_path / "a.mha")
    with pytest.raises(DataError, match=r"\.mha or \.nrrd"):
        save_itk(MASK, AFFINE, tmp_path / "a.nii")
    with pytest.raises(GeometryError, match="0 mm"):
        save_nifti(MASK, np.diag([0, 1, 1, 1]), tmp_path / "a.nii")
    with pytest.raises(GeometryError, match="does not fit"):
        save_nifti(MASK, AFFINE, tmp_path / "a.nii", like=Volume(MASK[1:], AFFINE))
    with pytest.raises(GeometryError, match="does not fit"):
        save_like(Volume(MASK[1:], AFFINE), MASK, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name,suffix", [("s.nii", ".nii.gz"), ("s.mhd", ".mha"), ("s.nrrd", ".nrrd"), (None, ".nii.gz")]
)
def test_family_follows_the_scan(tmp_path: Path, name: str | None, suffix: str) -> None:
    affine = np.diag([-1.0, -2.0, 3.0, 1.0])
    scan = Volume(VALUES, affine)
    if name == "s.nii":
        scan = load(save_nifti(VALUES, affine, tmp_path / name))
    elif name is not None:
        image = sitk.GetImageFromArray(VALUES.T)
        image.SetSpacing((1, 2, 3))
        sitk.WriteImage(image, str(tmp_path / name))
        scan = load(tmp_path / name)
    (written,) = save_like(scan, MASK, tmp_path / "out" / "case_seg.nii.gz")
    assert written == tmp_path / "out" / f"case_seg{suffix}"
    result = load(written)
    assert np.array_equal(result.array, MASK)
    assert same_grid(result, scan, tolerance=1e-6)


def test_dicom_gives_nifti_and_seg(tmp_path: Path) -> None:
    scan = load(Series(VALUES, orientation=OBLIQUE).write(tmp_path / "scan"))
    nifti, seg = save_like(scan, MASK, tmp_path / "case_seg", labels=("background", "A", "B"))
    assert (nifti.name, seg.name) == ("case_seg.nii.gz", "case_seg.dcm")
    assert same_grid(load(nifti), scan, tolerance=1e-3)
    assert np.array_equal(load(nifti).array, MASK)
    assert np.array_equal(read_dicom_seg(seg, scan), MASK)


def test_dicom_probabilities_give_nifti_alone(tmp_path: Path) -> None:
    scan = load(Series(VALUES).write(tmp_path / "scan"))
    (written,) = save_like(scan, VALUES / VALUES.max(), tmp_path / "prob")
    assert written.name == "prob.nii.gz"


def test_format_can_be_chosen(tmp_path: Path) -> None:
    scan = load(Series(VALUES).write(tmp_path / "scan"))
    assert [path.name for path in save_like(scan, MASK, tmp_path / "a", format="mha")] == ["a.mha"]
    assert [path.name for path in save_like(scan, MASK, tmp_path / "a", format="dicomseg")] == ["a.dcm"]
    with pytest.raises(ConfigError, match="'jpeg' is not known; choose one of nifti"):
        save_like(scan, MASK, tmp_path / "a", format="jpeg")
    with pytest.raises(ConfigError, match="needs a DICOM scan"):
        save_like(Volume(VALUES, AFFINE), MASK, tmp_path / "a", format="dicomseg")
