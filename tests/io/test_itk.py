from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medresnet3d.errors import AmbiguousInputError, DataError, GeometryError
from medresnet3d.io import load
from medresnet3d.io.itk import itk_affine, itk_image

VALUES = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
ROTATION = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])


def write(path: Path, array: np.ndarray = VALUES) -> Path:
    image = sitk.GetImageFromArray(array.T)
    image.SetSpacing((0.5, 1.5, 2.5))
    image.SetOrigin((10, 20, 30))
    image.SetDirection(ROTATION.ravel().tolist())
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "a.nhdr"])
def test_values_and_geometry(tmp_path: Path, name: str) -> None:
    volume = load(write(tmp_path / name))
    assert np.array_equal(volume.array, VALUES)
    assert volume.array.dtype == np.int16
    assert volume.array.flags.f_contiguous
    truth = np.eye(4)
    truth[:3, :3] = np.diag([-1, -1, 1]) @ ROTATION @ np.diag([0.5, 1.5, 2.5])
    truth[:3, 3] = (-10, -20, 30)
    np.testing.assert_allclose(volume.affine, truth, atol=1e-9)
    assert volume.source.format == ("mha" if name.startswith("a.mh") else "nrrd")
    assert volume.warnings == ()


def test_position_of_a_voxel_is_that_of_itk(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mha")
    x, y, z = sitk.ReadImage(str(path)).TransformIndexToPhysicalPoint((1, 2, 3))
    np.testing.assert_allclose(load(path).affine @ [1, 2, 3, 1], [-x, -y, z, 1])


def test_modality_of_a_metaimage(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mhd")
    path.write_text(path.read_text().replace("NDims = 3", "NDims = 3\nModality = MET_MOD_CT"))
    assert load(path).modality == "CT"


def test_nrrd_in_ras_and_without_space(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nhdr")
    header = path.read_text()
    lps = load(path).affine
    path.write_text(header.replace("space: left-posterior-superior", "space: right-anterior-superior"))
    np.testing.assert_allclose(load(path).affine, np.diag([-1, -1, 1, 1]) @ lps, atol=1e-9)
    path.write_text(header.replace("space: left-posterior-superior", "space dimension: 3"))
    assert "names no space" in load(path).warnings[0]


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_cut_short(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="damaged or cut short"):
        load(path)


def test_raw_file_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mhd")
    (tmp_path / "a.raw").unlink()
    with pytest.raises(DataError, match=r"a\.mhd: .*damaged or cut short"):
        load(path)


def test_zero_spacing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mhd")
    path.write_text(path.read_text().replace("ElementSpacing = 0.5 1.5 2.5", "ElementSpacing = 0 1.5 2.5"))
    with pytest.raises(GeometryError, match="voxel size is 0 mm"):
        load(path)


def test_axes_that_depend_on_each_other(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mhd")
    lines = path.read_text().splitlines()
    matrix = "TransformMatrix = 1 0 0 1 0 0 0 0 1"
    path.write_text("\n".join(matrix if line.startswith("TransformMatrix") else line for line in lines) + "\n")
    with pytest.raises(GeometryError, match="cannot be inverted"):
        load(path)


def test_vector_and_four_dimensions(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 4, 4, 3)), isVector=True), str(tmp_path / "vector.mha"))
    with pytest.raises(DataError, match="3 values"):
        load(tmp_path / "vector.mha")
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((2, 4, 4, 4)), isVector=False), str(tmp_path / "four.mha"))
    with pytest.raises(DataError, match="4 dimensions"):
        load(tmp_path / "four.mha")
    sitk.WriteImage(sitk.GetImageFromArray(VALUES.T[None], isVector=False), str(tmp_path / "one.mha"))
    volume = load(tmp_path / "one.mha")
    assert np.array_equal(volume.array, VALUES)
    assert "length one" in volume.warnings[0]


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_one_of_several_volumes(tmp_path: Path, name: str) -> None:
    both = np.stack([VALUES.T, VALUES.T + 500])
    sitk.WriteImage(sitk.GetImageFromArray(both, isVector=False), str(tmp_path / name))
    with pytest.raises(AmbiguousInputError, match=r"there is no volume '2'.*from 0 to 1"):
        load(tmp_path / name, "2")
    for index in (0, 1):
        assert np.array_equal(load(tmp_path / name, str(index)).array, VALUES + 500 * index)


def test_two_dimensions_become_one_slice(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(VALUES[:, :, 0].T), str(tmp_path / "a.mha"))
    assert load(tmp_path / "a.mha").shape == (4, 5, 1)


def test_image_and_affine_are_inverse_to_each_other(tmp_path: Path) -> None:
    volume = load(write(tmp_path / "a.mha"))
    image = itk_image(volume.array, volume.affine)
    np.testing.assert_allclose(itk_affine(image), volume.affine)
    assert np.array_equal(sitk.GetArrayFromImage(image).T, VALUES)


def test_sheared_axes_cannot_be_expressed() -> None:
    affine = np.eye(4)
    affine[0, 2] = 0.3
    with pytest.raises(GeometryError, match="sheared"):
        itk_image(VALUES, affine)
