from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medresnet3d.errors import DataError
from medresnet3d.io import KNOWN_SUFFIXES, is_dicom, known_suffix, load, save_nifti
from tests.io.dicom_maker import Series, stored_values


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.nii\.gz: no such file or folder"):
        load(tmp_path / "nothing.nii.gz")


def test_missing_file_of_a_list(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.dcm: no such file"):
        load([tmp_path / "nothing.dcm"])


def test_list_of_files_that_are_no_dicom(tmp_path: Path) -> None:
    path = save_nifti(stored_values(), np.eye(4), tmp_path / "a.nii.gz")
    with pytest.raises(DataError, match=r"a\.nii\.gz: a list of files means one DICOM series"):
        load([path, path])


def test_unknown_extension_names_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "scan.xyz").write_text("?")
    with pytest.raises(DataError) as caught:
        load(tmp_path / "scan.xyz")
    assert all(suffix in str(caught.value) for suffix in KNOWN_SUFFIXES)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha", "a.nrrd"])
def test_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(DataError, match="the file is empty"):
        load(tmp_path / name)


@pytest.mark.parametrize(
    "name,suffix", [("A.NII.GZ", ".nii.gz"), ("a.b.nii", ".nii"), ("a.gz", None), ("a", None), ("a.MHA", ".mha")]
)
def test_known_suffix(name: str, suffix: str | None) -> None:
    assert known_suffix(name) == suffix


def test_dicom_is_known_by_content(tmp_path: Path) -> None:
    folder = Series(stored_values()).write(tmp_path / "scan")
    path = (folder / "000.dcm").rename(tmp_path / "IM000001")
    assert is_dicom(path)
    assert load(path).source.format == "dicom"
    (tmp_path / "text").write_text("x" * 300)
    assert not is_dicom(tmp_path / "text")
    assert not is_dicom(tmp_path)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
def test_all_nan(tmp_path: Path, name: str) -> None:
    save_nifti(np.full((3, 3, 3), np.nan, np.float32), np.eye(4), tmp_path / name)
    with pytest.raises(DataError, match="no voxel has a finite value"):
        load(tmp_path / name)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_some_values_not_finite_are_counted(tmp_path: Path, bad: float) -> None:
    array = np.arange(27, dtype=np.float32).reshape(3, 3, 3)
    array[0, :2, 0] = bad
    save_nifti(array, np.eye(4), tmp_path / "a.nii")
    with pytest.raises(DataError, match="2 of 27 voxels are NaN or infinite; replace them"):
        load(tmp_path / "a.nii")


def test_constant_image_and_constant_label_map(tmp_path: Path) -> None:
    path = save_nifti(np.full((12, 12, 12), 7), np.eye(4), tmp_path / "a.nii.gz")
    with pytest.raises(DataError, match="every voxel has the value 7"):
        load(path)
    assert load(path, constant_ok=True).array.max() == 7


def test_one_voxel_that_differs_is_an_image(tmp_path: Path) -> None:
    array = np.zeros((12, 12, 12), np.uint8)
    array[5, 6, 7] = 1
    assert load(save_nifti(array, np.eye(4), tmp_path / "a.nii.gz")).array.sum() == 1


def test_importing_the_room_is_light() -> None:
    script = "import sys, medresnet3d.io; print([m for m in ('torch', 'pydicom', 'SimpleITK') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.strip() == "[]"


def test_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save_nifti(stored_values(), np.eye(4), tmp_path / "a.nii")
    assert load("~/a.nii").shape == (7, 6, 5)
