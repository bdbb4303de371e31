from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medresnet3d.errors import DataError
from medresnet3d.io import KNOWN_SUFFIXES, is_dicom, known_suffix, load, load_header, save_nifti
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


def _written(folder: Path, name: str) -> Path:
    """A scan of odd sizes on an oblique grid, in the format of its suffix; ``dicom`` is a folder."""
    import nibabel as nib
    import SimpleITK as sitk  # noqa: N813
    from PIL import Image

    path = folder / name
    voxels = np.random.default_rng(3).integers(0, 200, (5, 4, 3)).astype(np.int16)
    if name == "dicom":
        return Series(stored_values()).write(path)
    if name.endswith((".png", ".tif", ".jpg")):
        picture = Image.fromarray(voxels[:, :, 0].astype(np.uint16 if name == "deep.tif" else np.uint8))
        turned = Image.Exif()
        turned[0x0112] = 6 if name == "turned.jpg" else 1
        (picture.convert("RGB") if "colour" in name else picture).save(path, exif=turned)
    elif name.endswith((".mha", ".nrrd")):
        image = sitk.GetImageFromArray(voxels[0] if name.startswith("flat") else voxels)
        image.SetSpacing([0.5, 0.75, 3.0][: image.GetDimension()])
        image.SetOrigin([10.0, -20.0, 5.0][: image.GetDimension()])
        sitk.WriteImage(image, str(path))
    else:
        affine = np.array([[0, -1.2, 0, 5], [0.8, 0, 0.1, -3], [0, 0.2, 2.5, 7], [0, 0, 0, 1.0]])
        kind = nib.spm99analyze.Spm99AnalyzeImage if name.endswith(".img") else nib.nifti1.Nifti1Image
        nib.loadsave.save(kind(voxels, np.diag([1, 2, 3, 1.0]) if name.endswith(".img") else affine), path)
    return path


FORMATS = ["a.nii", "a.nii.gz", "a.img", "a.mha", "flat.mha", "a.nrrd", "dicom", "grey.png", "colour.png", "deep.tif"]


@pytest.mark.parametrize("name", [*FORMATS, "turned.jpg"])
def test_a_header_says_what_the_whole_file_says(tmp_path: Path, name: str) -> None:
    path = _written(tmp_path, name)
    header, volume = load_header(path), load(path)
    assert header.array.shape == volume.array.shape
    assert header.array.dtype == volume.array.dtype and header.array.strides == (0,) * header.array.ndim
    np.testing.assert_allclose(header.affine, volume.affine, atol=1e-6)
    assert header.source.format == volume.source.format and header.modality == volume.modality
    assert header.source.files == volume.source.files


def test_a_header_that_is_no_header(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "a.mha", "a.png", "a.tif"):
        (tmp_path / name).write_bytes(b"no image" * 50)
        with pytest.raises(DataError, match=name):
            load_header(tmp_path / name)
    with pytest.raises(DataError, match="no such file"):
        load_header(tmp_path / "lost.nii")
