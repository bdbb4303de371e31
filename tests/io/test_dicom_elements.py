from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medresnet3d.io import dicom_elements
from medresnet3d.io.dicom_elements import Header, read_header
from tests.io.dicom_maker import Series, stored_values

SAMPLES = sorted(path for path in (Path(pydicom.__file__).parent / "data").rglob("*") if path.is_file())


def same(found: Dataset, wanted: Dataset) -> bool:
    return (
        Dataset(found) == Dataset(wanted)
        and found.file_meta == wanted.file_meta
        and found.original_encoding == wanted.original_encoding
        and found.original_character_set == wanted.original_character_set
    )


def write(path: Path, syntax: Any = ExplicitVRLittleEndian, **tags: Any) -> Path:
    Series(stored_values(), syntax=syntax, tags=tags).dataset(0).save_as(path, enforce_file_format=True)
    return path


def nested(undefined: bool) -> Sequence:
    inner, outer = Dataset(), Dataset()
    inner.CodeValue, inner.CodeMeaning = "1", "Größe"
    outer.ConceptNameCodeSequence, outer.TextValue = Sequence([inner, inner]), "text"
    every = Sequence([outer, Dataset(), outer])
    every.is_undefined_length = outer["ConceptNameCodeSequence"].is_undefined_length = undefined
    outer["ConceptNameCodeSequence"].value.is_undefined_length = undefined
    for item in (inner, outer):
        item.is_undefined_length_sequence_item = undefined
    return every


def test_samples_of_pydicom_are_read_as_pydicom_does() -> None:
    quick = 0
    for path in SAMPLES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                wanted = dcmread(path, stop_before_pixels=True)
            except (InvalidDicomError, EOFError, OSError, ValueError, NotImplementedError, AttributeError):
                continue
            found = read_header(path)
            assert same(found, wanted), path.name
        quick += isinstance(found, Header)
    assert quick > 50


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("undefined", [True, False])
def test_sequences(tmp_path: Path, syntax: Any, undefined: bool) -> None:
    tags = {"SpecificCharacterSet": "ISO_IR 100", "ConceptCodeSequence": nested(undefined), "PatientName": "Müller"}
    path = write(tmp_path / "a.dcm", syntax, **tags)
    found = read_header(path)
    assert isinstance(found, Header)
    assert same(found, dcmread(path, stop_before_pixels=True))
    assert found.ConceptCodeSequence[2].ConceptNameCodeSequence[1].CodeMeaning == "Größe"


def test_place_of_the_pixels(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm")
    found = read_header(path)
    assert isinstance(found, Header)
    assert found.pixels is not None
    start = found.pixels.offset
    assert path.read_bytes()[start : start + found.pixels.length] == dcmread(path).PixelData
    assert "PixelData" not in found


def test_long_header_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.dcm", ImageComments="x" * 9000)
    for first in (16, 140, 1000):
        monkeypatch.setattr(dicom_elements, "FIRST_READ", first)
        assert same(read_header(path), dcmread(path, stop_before_pixels=True))


@pytest.mark.parametrize("length", [200, 500, 900])
def test_cut_header_is_read_as_pydicom_does(tmp_path: Path, length: int) -> None:
    path = write(tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes()[:length])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert same(read_header(path), dcmread(path, stop_before_pixels=True))


def test_other_encodings_are_left_to_pydicom(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", DeflatedExplicitVRLittleEndian)
    found = read_header(path)
    assert not isinstance(found, Header)
    assert found.Rows == 6


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"x" * 500)
    with pytest.raises(InvalidDicomError):
        read_header(tmp_path / "a.dcm")


def test_header_survives_pickling(tmp_path: Path) -> None:
    found = read_header(write(tmp_path / "a.dcm"))
    copy = pickle.loads(pickle.dumps(found))
    assert same(copy, found)
    assert copy.pixels == found.pixels
