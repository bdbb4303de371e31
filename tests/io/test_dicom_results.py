from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.io import Volume, load
from medresnet3d.io.dicom_results import DISCLAIMER, coded, decimals, new_series, source_headers
from tests.io.dicom_maker import Series, stored_values


def test_sentence_is_the_package_s() -> None:
    from medresnet3d.reports import DISCLAIMER as sentence  # noqa: N811

    assert sentence == DISCLAIMER


def test_headers_are_completed_but_not_changed(tmp_path: Path) -> None:
    def strip(ds: Dataset, k: int) -> None:
        del ds.PatientName, ds.StudyTime

    volume = load(Series(stored_values(), change=strip).write(tmp_path))
    header = source_headers(volume, "DICOM SEG")[0]
    assert (header.PatientName, header.StudyTime, header.PatientID) == ("", "", "P1")
    assert "PatientName" not in volume.source.datasets[0]


def test_what_cannot_be_referred_to(tmp_path: Path) -> None:
    volume = load(Series(stored_values(), change=lambda ds, k: delattr(ds, "SOPClassUID")).write(tmp_path))
    with pytest.raises(DataError, match="the headers have no SOPClassUID, by which DICOM SR would refer to the scan"):
        source_headers(volume, "DICOM SR")
    with pytest.raises(DataError, match="array in memory: DICOM SR needs a DICOM scan to refer to, this is array"):
        source_headers(Volume(volume.array, volume.affine), "DICOM SR")


def test_codes() -> None:
    expected = ("12738006", "SCT", "Brain")
    for given in (list(expected), {"value": "12738006", "scheme": "SCT", "meaning": "Brain"}):
        code = coded(given, "brain")
        assert (code.value, code.scheme_designator, code.meaning) == expected
    for wrong in ("Brain", ["1", "SCT"], ["1", "SCT", ""], {"value": 1}):
        with pytest.raises(ConfigError, match=r"the code of label 'brain' is .*; give \[value, scheme, meaning\]"):
            coded(wrong, "brain")


def test_small_things() -> None:
    assert decimals([1 / 3, -1e-9, 2]) == ["0.33333333333333", "-1e-09", "2.0"]
    assert all(len(text) <= 16 for text in decimals([-1 / 3e7, 123456789.123456789]))
    header = Dataset()
    header.SeriesNumber = 7
    first, second = new_series(header, "SEG"), new_series(header, "SR")
    assert (first["series_number"], second["series_number"]) == (1007, 2007)
    assert first["series_instance_uid"] != second["series_instance_uid"]
