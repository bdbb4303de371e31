from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from highdicom import get_volume_from_series
from pydicom.uid import CTImageStorage

from medresnet3d.data.phantoms.ct import ChestPhantom
from medresnet3d.data.phantoms.dicom import write_chest_dicom, write_dicom_series
from medresnet3d.errors import ConfigError

SMALL: dict[str, Any] = {"shape": (48, 40, 22), "spacing": (2.5, 2.4, 4.0), "nodules": 1, "distractors": 1}
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def _read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (i, j, k) and affine to mm in RAS+ of the one series in a folder, by SimpleITK."""
    names = sitk.ImageSeriesReader().GetGDCMSeriesFileNames(str(folder))
    image = sitk.ReadImage(names)
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0), LPS @ affine


@pytest.mark.parametrize("file_names", ["sorted", "shuffled"])
@pytest.mark.parametrize("rotation", [(0.0, 0.0, 0.0), (8.0, -4.0, 15.0)])
def test_simpleitk_reads_back_voxels_and_geometry(tmp_path: Path, file_names: str, rotation: tuple) -> None:
    phantom = write_chest_dicom(
        tmp_path, 3, file_names=file_names, rotation_degrees=rotation, centre=(12.0, -30.0, 250.0), **SMALL
    )
    array, affine = _read(tmp_path)
    np.testing.assert_array_equal(array, phantom.array)
    np.testing.assert_allclose(affine, phantom.affine, atol=2e-4)
    nodule = phantom.nodules[0]
    assert phantom.nodule_mask[phantom.index_of(nodule.centre)] == 1


def test_highdicom_agrees_about_the_geometry(tmp_path: Path) -> None:
    phantom = write_chest_dicom(tmp_path, 4, file_names="shuffled", orientation="RAS", **SMALL)
    volume = get_volume_from_series([pydicom.dcmread(path) for path in tmp_path.iterdir()])
    for corner in ((0, 0, 0), (47, 39, 21), (10, 30, 5)):
        world = LPS @ phantom.affine @ (*corner, 1)
        index = np.rint(volume.map_reference_to_indices(world[None, :3])[0]).astype(int)
        assert volume.array[tuple(index)] == phantom.array[corner]


def test_headers_are_those_of_a_ct_and_say_what_it_is(tmp_path: Path) -> None:
    write_chest_dicom(tmp_path, 5, **SMALL)
    images = [pydicom.dcmread(path) for path in sorted(tmp_path.iterdir())]
    assert [image.InstanceNumber for image in images] == list(range(1, 23))
    assert {image.SOPClassUID for image in images} == {CTImageStorage}
    assert len({image.SOPInstanceUID for image in images}) == 22
    assert len({image.SeriesInstanceUID for image in images}) == 1
    first = images[0]
    assert first.PatientID == "PHANTOM0005"
    assert "Research use only" in first.SeriesDescription
    assert "Not for clinical use." in first.ImageComments
    assert (first.Rows, first.Columns) == (40, 48)
    assert [float(value) for value in first.PixelSpacing] == [2.4, 2.5]
    assert first.RescaleIntercept == -1024 and first.pixel_array.min() >= 0
    for uid in (first.SOPInstanceUID, first.SeriesInstanceUID, first.StudyInstanceUID, first.FrameOfReferenceUID):
        assert uid.is_valid


def test_a_missing_slice_leaves_a_gap(tmp_path: Path) -> None:
    write_chest_dicom(tmp_path, 6, missing_slices=(9,), **SMALL)
    heights = np.sort([float(pydicom.dcmread(path).ImagePositionPatient[2]) for path in tmp_path.iterdir()])
    assert len(heights) == 21
    assert sorted(np.diff(heights).round(3))[-2:] == [4.0, 8.0]


def test_two_series_in_one_folder_share_the_study(tmp_path: Path) -> None:
    array, affine = np.full((12, 10, 6), -700, dtype=np.int16), np.diag([-2.0, -2.0, 3.0, 1.0])
    for number in (1, 2):
        write_dicom_series(tmp_path, array, affine, patient_id="P1", series_number=number)
    images = [pydicom.dcmread(path) for path in tmp_path.iterdir()]
    assert len(images) == 12
    assert len({image.SeriesInstanceUID for image in images}) == 2
    assert len({image.StudyInstanceUID for image in images}) == 1
    assert len(sitk.ImageSeriesReader().GetGDCMSeriesIDs(str(tmp_path))) == 2


def test_what_a_series_cannot_express_is_refused(tmp_path: Path) -> None:
    array, affine = np.zeros((4, 4, 4), dtype=np.int16), np.eye(4)
    shear = np.eye(4)
    shear[0, 1] = 0.3
    with pytest.raises(ConfigError, match="shear"):
        write_dicom_series(tmp_path, array, shear)
    with pytest.raises(ConfigError, match="-1024"):
        write_dicom_series(tmp_path, array - 2000, affine)
    with pytest.raises(ConfigError, match="sorted or shuffled"):
        write_dicom_series(tmp_path, array, affine, file_names="random")
    assert not list(tmp_path.iterdir())


def test_the_phantom_comes_back_with_its_truth(tmp_path: Path) -> None:
    phantom = write_chest_dicom(tmp_path, 7, **SMALL)
    assert isinstance(phantom, ChestPhantom)
    assert len(list(tmp_path.iterdir())) == phantom.array.shape[2]
