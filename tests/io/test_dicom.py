from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.fileset import FileSet

from medresnet3d.errors import DataError, GeometryError
from medresnet3d.io import Volume, list_series, load, load_all
from medresnet3d.io.itk import itk_affine
from tests.io.dicom_maker import OBLIQUE, Series, check, stored_values


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (-1, 0, 0, 0, -1, 0), OBLIQUE])
def test_known_voxels_and_affine(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    series = Series(stored_values(), orientation=orientation)
    check(series.write(tmp_path / "scan"), series)


def test_second_opinion_of_simpleitk(tmp_path: Path) -> None:
    series = Series(stored_values(), orientation=OBLIQUE)
    volume = load(series.write(tmp_path / "scan"))
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "scan"))
    image = sitk.ReadImage(names)
    assert np.array_equal(sitk.GetArrayFromImage(image).T, volume.array)
    np.testing.assert_allclose(itk_affine(image), volume.affine, atol=1e-4)


def test_layout_and_type_need_no_transpose(tmp_path: Path) -> None:
    volume = load(Series(stored_values()).write(tmp_path / "scan"))
    assert volume.array.flags.f_contiguous
    assert volume.array.dtype == np.int16
    assert volume.modality == "CT"
    assert volume.warnings == ()
    assert volume.spacing == pytest.approx((0.8, 1.1, 2.5))


def test_zip_archive(tmp_path: Path) -> None:
    series = Series(stored_values())
    series.write(tmp_path / "scan")
    archive = Path(shutil.make_archive(str(tmp_path / "scan"), "zip", tmp_path / "scan"))
    check(archive, series)
    assert load(archive).source.files == (archive,)
    assert [info.shape for info in list_series(archive)] == [(7, 6, 5)]


def test_dicomdir(tmp_path: Path) -> None:
    series = Series(stored_values())
    files = FileSet()
    for k in range(5):
        files.add(series.dataset(k))
    files.write(tmp_path / "disk")
    check(tmp_path / "disk" / "DICOMDIR", series)
    check(tmp_path / "disk", series)
    next(path for path in (tmp_path / "disk").rglob("*") if path.is_file() and path.name != "DICOMDIR").unlink()
    with pytest.raises(DataError, match="1 of the 5 listed files are missing"):
        load(tmp_path / "disk" / "DICOMDIR")


def test_damaged_dicomdir(tmp_path: Path) -> None:
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + bytes(40))
    with pytest.raises(DataError, match="the DICOMDIR cannot be read"):
        load(tmp_path / "DICOMDIR")


def test_unreadable_zip(tmp_path: Path) -> None:
    (tmp_path / "scan.zip").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(DataError, match=r"scan\.zip: the ZIP archive cannot be unpacked"):
        load(tmp_path / "scan.zip")


def test_zip_without_dicom(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as archive:
        archive.writestr("readme.txt", "no image")
    with pytest.raises(DataError, match=r"scan\.zip: none of the 1 files"):
        load(tmp_path / "scan.zip")


def test_constant_series(tmp_path: Path) -> None:
    folder = Series(np.zeros((4, 4, 3), np.int16)).write(tmp_path / "scan")
    with pytest.raises(DataError, match="every voxel has the value -1024"):
        load(folder)


def test_single_slice_file(tmp_path: Path) -> None:
    series = Series(stored_values())
    folder = series.write(tmp_path / "scan")
    volume = load(folder / "000.dcm")
    assert volume.shape == (7, 6, 1)
    assert volume.spacing == pytest.approx((0.8, 1.1, 2.5))


def test_load_all_gives_every_volume_and_says_what_is_none(tmp_path: Path) -> None:
    first = Series(stored_values(), number=1)
    first.write(tmp_path / "scan", prefix="a")
    Series(stored_values((9, 8, 1)), number=2, tags={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}).write(
        tmp_path / "scan", prefix="b"
    )
    Series(stored_values(), number=3, orientation=(1, 0, 0, 0.3, 1, 0)).write(tmp_path / "scan", prefix="c")
    Series(stored_values((4, 4, 9)), number=4).write(tmp_path / "scan", prefix="d", skip=[3])
    results = list(load_all(tmp_path / "scan"))
    assert [info.id for info, _ in results] == ["1", "2", "3", "4"]
    whole, localiser, broken, gap = (found for _, found in results)
    assert isinstance(whole, Volume) and np.array_equal(whole.array, first.stored - 1024)
    assert localiser is None
    assert isinstance(broken, GeometryError) and "(series 3): the direction cosines are not" in str(broken)
    assert isinstance(gap, Volume) and gap.shape == (4, 4, 9)
    strict = [found for _, found in load_all(tmp_path / "scan", strict=True)]
    assert isinstance(strict[3], GeometryError) and "1 slice is missing" in str(strict[3])


def test_load_all_of_an_archive(tmp_path: Path) -> None:
    first, second = Series(stored_values(), number=1), Series(stored_values(seed=1), number=2)
    first.write(tmp_path / "scan", prefix="a")
    second.write(tmp_path / "scan", prefix="b")
    archive = Path(shutil.make_archive(str(tmp_path / "scan"), "zip", tmp_path / "scan"))
    for series, (_, volume) in zip((first, second), load_all(archive), strict=True):
        assert isinstance(volume, Volume) and np.array_equal(volume.array, series.stored - 1024)


def test_load_all_of_single_images_only(tmp_path: Path) -> None:
    folder = Series(stored_values((9, 8, 1))).write(tmp_path / "scan")
    [(info, volume)] = load_all(folder)
    assert not info.volumetric
    assert isinstance(volume, Volume) and volume.shape == (9, 8, 1)


@pytest.mark.realdata
def test_real_series_against_simpleitk(realdata: Path, tmp_path: Path) -> None:
    archive = realdata / "chest_ct_dicom" / "series.zip"
    volume = load(archive)
    with zipfile.ZipFile(archive) as content:
        content.extractall(tmp_path)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(next(tmp_path.iterdir())))
    image = sitk.ReadImage(names)
    assert volume.shape == (512, 512, 32)
    assert np.array_equal(sitk.GetArrayFromImage(image).T, volume.array)
    np.testing.assert_allclose(itk_affine(image), volume.affine, atol=1e-4)
