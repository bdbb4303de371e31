from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from medresnet3d.errors import DataError
from medresnet3d.io import load
from tests.io.dicom_maker import Series, check, stored_values


def test_rescale_per_slice(tmp_path: Path) -> None:
    slopes, intercepts = [0.5, 1.0, 1.5, 2.0, 2.5], [0.0, 10.0, 20.0, 30.0, 40.0]
    series = Series(stored_values(), slope=slopes, intercept=intercepts, tags={"Modality": "PT"})
    volume = load(series.write(tmp_path / "scan"))
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array, series.stored * np.array(slopes) + np.array(intercepts), rtol=1e-6)


def test_fractional_slope(tmp_path: Path) -> None:
    volume = load(Series(stored_values(), slope=0.25, intercept=-3.5).write(tmp_path / "scan"))
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array, stored_values() * 0.25 - 3.5)


def test_unsigned_16_bit_above_the_signed_range(tmp_path: Path) -> None:
    stored = stored_values(dtype=np.uint16)
    stored[0, 0, 0] = 65535
    series = Series(stored)
    check(series.write(tmp_path / "scan"), series)
    assert load(tmp_path / "scan").array.dtype == np.int32


def test_negative_stored_values(tmp_path: Path) -> None:
    series = Series(stored_values() - np.int16(2000), intercept=0)
    check(series.write(tmp_path / "scan"), series)


def test_twelve_signed_bits_with_garbage_above(tmp_path: Path) -> None:
    stored = (stored_values() - np.int16(100)).astype(np.int16)

    def pack(ds: Dataset, k: int) -> None:
        plane = np.frombuffer(ds.PixelData, np.int16).view(np.uint16)
        ds.BitsStored, ds.HighBit = 12, 11
        ds.PixelData = ((plane & 0x0FFF) | 0x5000).astype(np.uint16).tobytes()

    volume = load(Series(stored, intercept=0, change=pack).write(tmp_path / "scan"))
    assert np.array_equal(volume.array, stored)


def test_monochrome1_is_turned_for_pictures_only(tmp_path: Path) -> None:
    stored = stored_values(dtype=np.uint16)
    tags = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}
    picture = load(Series(stored, intercept=0, tags={**tags, "Modality": "MR"}).write(tmp_path / "mr"))
    assert np.array_equal(picture.array, 4095 - stored)
    assert "MONOCHROME1" in picture.warnings[0]
    quantity = load(Series(stored, intercept=0, tags={**tags, "Modality": "CT"}).write(tmp_path / "ct"))
    assert np.array_equal(quantity.array, stored)


def test_slice_cut_short(tmp_path: Path) -> None:
    folder = Series(stored_values()).write(tmp_path / "scan")
    path = folder / "002.dcm"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"002\.dcm: .*copy the file again"):
        load(folder)


def test_slices_of_different_signedness(tmp_path: Path) -> None:
    stored = stored_values(dtype=np.uint16)
    stored[:, :, 3] += 40000

    def sign(ds: Dataset, k: int) -> None:
        ds.PixelRepresentation = int(k < 3)

    volume = load(Series(stored, intercept=0, change=sign).write(tmp_path / "scan"))
    assert np.array_equal(volume.array, stored)


def test_rescaling_keeps_what_int16_cannot_hold(tmp_path: Path) -> None:
    series = Series(stored_values() - np.int16(32700), intercept=-1024.0)
    check(series.write(tmp_path / "scan"), series)
    assert load(tmp_path / "scan").array.dtype == np.int32
