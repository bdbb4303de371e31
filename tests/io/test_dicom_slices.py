from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import UID, BasicTextSRStorage, CTImageStorage, ImplicitVRLittleEndian

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


def enhanced(series: Series, order: list[int]) -> Dataset:
    """The series as one multi-frame file whose frames lie in the given order."""
    ds = series.dataset(0)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = UID(CTImageStorage + ".1")
    for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        delattr(ds, tag)
    ds.NumberOfFrames = len(order)
    ds.PixelData = np.ascontiguousarray(series.stored[:, :, order].T).tobytes()
    shared, measures, orientation, values = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [series.spacing[1], series.spacing[0]], series.spacing[2]
    orientation.ImageOrientationPatient = list(series.orientation)
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 1, -1024, "HU"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    shared.PixelValueTransformationSequence = [values]
    ds.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for k in order:
        position, frame = Dataset(), Dataset()
        position.ImagePositionPatient = [float(value) for value in np.array(series.origin) + k * series.step]
        frame.PlanePositionSequence = [position]
        frames.append(frame)
    ds.PerFrameFunctionalGroupsSequence = frames
    return ds


def test_enhanced_multi_frame(tmp_path: Path) -> None:
    series = Series(stored_values())
    enhanced(series, [3, 0, 4, 1, 2]).save_as(tmp_path / "multi.dcm", enforce_file_format=True)
    check(tmp_path / "multi.dcm", series)
    volume = load(tmp_path / "multi.dcm")
    assert volume.source.frames == (1, 3, 4, 0, 2)
    assert len(volume.source.datasets) == 1


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
    last = max(folder.iterdir(), key=lambda path: dcmread(path).InstanceNumber)
    last.write_bytes(last.read_bytes()[:keep])
    with pytest.raises(DataError, match=rf"{last.name}: .*copy"):
        load(folder)


def test_resource_forks_of_macos_are_skipped(tmp_path: Path) -> None:
    series = Series(stored_values())
    folder = series.write(tmp_path / "scan")
    (folder / "._000.dcm").write_bytes(b"\x00\x05\x16\x07")
    check(folder, series)
