from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import BasicTextSRStorage, ImplicitVRLittleEndian

from medresnet3d.errors import DataError
from medresnet3d.io import load
from tests.io.dicom_maker import Series, check, stored_values


def test_list_of_files_and_nested_folders(tmp_path: Path) -> None:
    series = Series(stored_values())
    folder = series.write(tmp_path / "scan" / "inner" / "deep")
    (tmp_path / "scan" / "readme.txt").write_text("no image")
    files = sorted(folder.glob("*.dcm"))
    assert np.array_equal(load(files).array, load(tmp_path / "scan").array)
    assert set(load(files).source.files) == set(files)


def test_file_without_extension_and_preamble(tmp_path: Path) -> None:
    series = Series(stored_values(), syntax=ImplicitVRLittleEndian)
    folder = series.write(tmp_path / "scan")
    for path in list(folder.iterdir()):
        dataset = dcmread(path)
        del dataset.file_meta
        dataset.save_as(folder / path.stem, implicit_vr=True, little_endian=True, enforce_file_format=False)
        path.unlink()
    check(folder, series)


def test_empty_folder_and_folder_without_dicom(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the folder is empty"):
        load(tmp_path)
    (tmp_path / "readme.txt").write_text("no image")
    with pytest.raises(DataError, match="none of the 1 files in it is DICOM"):
        load(tmp_path)


def test_damaged_header(tmp_path: Path) -> None:
    (tmp_path / "scan.dcm").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=r"scan\.dcm: the DICOM file is damaged or is none"):
        load(tmp_path / "scan.dcm")


def test_invalid_values_elsewhere_do_not_matter(tmp_path: Path) -> None:
    series = Series(stored_values())
    folder = series.write(tmp_path / "scan")
    for path in folder.iterdir():
        content = path.read_bytes()
        assert b"20200101" in content
        path.write_bytes(content.replace(b"20200101", b"ABCDXX01"))
    check(folder, series)


def test_objects_without_pixels_are_left_out(tmp_path: Path) -> None:
    series = Series(stored_values())
    folder = series.write(tmp_path / "scan")
    report = series.dataset(0)
    del report.Rows, report.Columns, report.PixelData
    report.Modality = "SR"
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = BasicTextSRStorage
    report.save_as(folder / "report.dcm", enforce_file_format=True)
    check(folder, series)
    with pytest.raises(DataError, match="hold no image"):
        load(folder / "report.dcm")


@pytest.mark.parametrize("keep", [0, 60, 200, 500, 900])
def test_a_slice_cut_short_is_never_lost_in_silence(tmp_path: Path, keep: int) -> None:
    series = Series(stored_values())
    folder = series.write(tmp_path / "scan")
    by_number = sorted(folder.iterdir(), key=lambda path: dcmread(path).InstanceNumber)
    whole = by_number[-1].read_bytes()
    by_number[-1].write_bytes(whole[:keep])
    try:
        volume = load(folder)
    except DataError as error:  # the header is whole, so that the slice is known to be there
        assert f"{by_number[-1].name}" in str(error)
        assert keep == 900
    else:
        assert volume.shape[2] == len(by_number) - 1
        (told,) = [text for text in volume.warnings if by_number[-1].name in text]
        assert "A damaged file was set aside" in told and "should one have been the first or last slice" in told
        with pytest.raises(DataError, match="A damaged file was set aside"):
            load(folder, strict=True)
    by_number[-1].write_bytes(whole)
    by_number[1].write_bytes(by_number[1].read_bytes()[:keep])
    with pytest.raises(DataError, match=rf"{by_number[1].name}: .*copy"):
        load(folder)


def test_a_damaged_file_beside_a_single_image_is_an_error(tmp_path: Path) -> None:
    folder = Series(stored_values()[:, :, :1]).write(tmp_path / "scan")
    (folder / "broken.dcm").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=r"broken\.dcm: the DICOM file is damaged or is none"):
        load(folder)


def test_resource_forks_of_macos_are_skipped(tmp_path: Path) -> None:
    series = Series(stored_values())
    folder = series.write(tmp_path / "scan")
    (folder / "._000.dcm").write_bytes(b"\x00\x05\x16\x07")
    check(folder, series)
