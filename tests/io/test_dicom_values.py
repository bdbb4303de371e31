from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medresnet3d.io.dicom_values import number, numbers, private_number, text
from tests.io.dicom_maker import Series, stored_values

BLOCK = Tag(0x0019, 0x100A)


def reread(dataset: Dataset) -> Dataset:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return dcmread(buffer)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_values_are_the_same_from_the_file_and_from_pydicom(syntax: str) -> None:
    series = Series(stored_values(), syntax=syntax)
    if syntax == ExplicitVRBigEndian:
        series.change = lambda ds, k: setattr(ds, "PixelData", b"\0" * len(ds.PixelData))
    dataset = reread(series.dataset(2))
    assert isinstance(dataset.get_item("ImagePositionPatient"), RawDataElement)
    for _ in range(2):
        np.testing.assert_allclose(numbers(dataset, "ImagePositionPatient", 3), [-20, 30, 45])
        assert number(dataset, "InstanceNumber") == 3
        assert (number(dataset, "Rows"), text(dataset, "Columns")) == (6, "7")
        assert text(dataset, "ImageType") == "ORIGINAL\\PRIMARY\\AXIAL"
        assert text(dataset, "SOPClassUID") == "1.2.840.10008.5.1.4.1.1.2"
        assert text(dataset, "PatientName") == "Phantom"
        for element in dataset:
            assert element.tag in dataset  # every value has been made by pydicom now


def test_absent_empty_and_odd_values() -> None:
    dataset = Dataset()
    dataset.SeriesDescription, dataset.EchoTime = "", None
    assert text(dataset, "SeriesDescription", "none") == "none"
    assert text(dataset, "Modality", "none") == "none"
    assert number(dataset, "EchoTime") is None
    assert numbers(dataset, "PixelSpacing", 2) is None
    dataset.PixelSpacing = [1, 2]
    assert number(dataset, "PixelSpacing") is None


@pytest.mark.parametrize("value", [b"twelve", b"nan", b"1\\2\\3", b"\xff\xfe"])
def test_unreadable_numbers_in_a_file(value: bytes) -> None:
    dataset = Dataset()
    tag = Tag("SliceThickness")
    dataset._dict[tag] = RawDataElement(tag, "DS", len(value), value, 0, False, True)
    assert number(dataset, "SliceThickness") is None


@pytest.mark.parametrize(
    "vr,value,expected",
    [
        ("US", 48, 48),
        ("DS", "27", 27),
        ("IS", ["1000", "8", "0"], 1000),
        ("UN", b"\x30\x00", 48),
        ("UN", b"48", 48),
        ("UN", b"7 ", 7),
        ("UN", b"some", None),
        ("LO", "", None),
    ],
)
def test_private_numbers(vr: str, value: object, expected: float | None) -> None:
    dataset = Dataset()
    dataset.add_new(BLOCK, vr, value)
    assert private_number(dataset, BLOCK) == expected
    assert private_number(Dataset(), BLOCK) is None
