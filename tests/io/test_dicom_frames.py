from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from medresnet3d.errors import DataError
from medresnet3d.io import dicom_frames, load
from medresnet3d.io.dicom_elements import Header, read_header
from medresnet3d.io.dicom_frames import frames
from tests.io.dicom_maker import Series, check, stored_values

STACK = np.random.default_rng(0).integers(-900, 900, (4, 9, 12)).astype(np.int16)
"""Frames, rows, columns."""


def compress(folder: Path, syntax: UID) -> Path:
    for path in folder.iterdir():
        dataset = dcmread(path)
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.save_as(path)
    return folder


def multi_frame(path: Path, stored: NDArray[Any] = STACK, syntax: UID | None = None, **tags: Any) -> Path:
    dataset = Series(stored[0].T[..., None]).dataset(0)
    dataset.NumberOfFrames, dataset.PixelData = len(stored), stored.tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    if syntax is not None:
        dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_compressed_series(tmp_path: Path, syntax: UID) -> None:
    series = Series(stored_values((40, 36, 2)) - np.int16(300))
    check(compress(series.write(tmp_path / "scan"), syntax), series)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_other_encodings(tmp_path: Path, syntax: UID) -> None:
    series = Series(stored_values(), syntax=syntax)
    check(series.write(tmp_path / "scan"), series)


def test_big_endian(tmp_path: Path) -> None:
    series = Series(stored_values(), syntax=ExplicitVRBigEndian)
    series.change = lambda ds, k: setattr(
        ds, "PixelData", np.frombuffer(ds.PixelData, np.int16).astype(">i2").tobytes()
    )
    check(series.write(tmp_path / "scan"), series)


def test_jpeg_lossless(tmp_path: Path) -> None:
    gdcm = pytest.importorskip("gdcm")
    series = Series(stored_values((16, 16, 2)))
    folder = series.write(tmp_path / "scan")
    for path in folder.iterdir():
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(path))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(path))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
    assert dcmread(path).file_meta.TransferSyntaxUID == JPEGLosslessSV1
    check(folder, series)


def test_missing_decoder_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        is_available = False

    folder = compress(Series(stored_values()).write(tmp_path / "scan"), RLELossless)
    monkeypatch.setattr(dicom_frames, "get_decoder", lambda syntax: Missing())
    with pytest.raises(DataError, match=r"RLE Lossless \(1\.2\.840\.10008\.1\.2\.5\).*medresnet3d\[gdcm\]"):
        load(folder)


def test_compression_that_nobody_decodes(tmp_path: Path) -> None:
    retired = UID("1.2.840.10008.1.2.4.65")  # JPEG, spectral selection
    folder = Series(stored_values()).write(tmp_path / "scan")
    for path in folder.iterdir():
        dataset = dcmread(path)
        dataset.compress(RLELossless)
        dataset.file_meta.TransferSyntaxUID = retired
        dataset.save_as(path)
    with pytest.raises(DataError, match=r"1\.2\.840\.10008\.1\.2\.4\.65\), for which there is no decoder; convert"):
        load(folder)


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEGLSLossless])
def test_some_frames_of_a_file_in_any_order(tmp_path: Path, syntax: UID | None) -> None:
    path = multi_frame(tmp_path / "a.dcm", syntax=syntax)
    found = [plane.copy() for plane in frames(path, read_header(path), [3, 0, 2])]
    assert np.array_equal(found, STACK[[3, 0, 2]])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32])
def test_plain_pixels_equal_those_of_pydicom(tmp_path: Path, dtype: Any) -> None:
    path = multi_frame(tmp_path / "a.dcm", STACK.astype(dtype))
    header = read_header(path)
    assert isinstance(header, Header)
    found = np.array([plane.copy() for plane in frames(path, header, range(4))])
    assert np.array_equal(found, dcmread(path).pixel_array)
    assert found.dtype == dtype


def test_unused_bits_are_cleared(tmp_path: Path) -> None:
    noise = np.array(0x6000, np.int16)
    path = multi_frame(tmp_path / "a.dcm", (STACK & 0x0FFF) | noise, BitsStored=12, HighBit=11)
    assert np.array_equal(next(frames(path, read_header(path), [1])), STACK[1])


def test_floating_point_pixels(tmp_path: Path) -> None:
    def change(ds: Dataset, k: int) -> None:
        ds.FloatPixelData = np.frombuffer(ds.PixelData, np.int16).astype(np.float32).tobytes()
        ds.BitsAllocated = 32
        del ds.PixelData, ds.BitsStored, ds.HighBit, ds.PixelRepresentation

    volume = load(Series(stored_values(), intercept=0, change=change).write(tmp_path / "scan"))
    assert volume.array.dtype == np.float32
    assert np.array_equal(volume.array, stored_values())


@pytest.mark.parametrize("cut", [1, 300])
def test_cut_short(tmp_path: Path, cut: int) -> None:
    path = multi_frame(tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(DataError, match=r"a\.dcm: the pixel data cannot be decoded.*copy the file again"):
        list(frames(path, read_header(path), range(4)))


def test_more_frames_than_there_are(tmp_path: Path) -> None:
    path = multi_frame(tmp_path / "a.dcm")
    with pytest.raises(DataError, match="do not contain 5 frames"):
        list(frames(path, read_header(path), [4]))


def test_no_pixel_data(tmp_path: Path) -> None:
    dataset = Series(stored_values()).dataset(0)
    del dataset.PixelData
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(DataError, match="cannot be decoded"):
        list(frames(tmp_path / "a.dcm", read_header(tmp_path / "a.dcm"), [0]))
