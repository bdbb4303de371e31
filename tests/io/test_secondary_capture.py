from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from medresnet3d.errors import DataError
from medresnet3d.io import Volume, load
from medresnet3d.io.dicom_results import DISCLAIMER
from medresnet3d.io.secondary_capture import with_banner, write_secondary_capture
from tests.io.dicom_maker import Series, stored_values


def picture(rows: int = 90, columns: int = 700) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (rows, columns, 3)).astype(np.uint8)


@pytest.fixture
def scan(tmp_path: Path) -> Volume:
    return load(Series(stored_values()).write(tmp_path / "scan"))


def test_round_trip(scan: Volume, tmp_path: Path) -> None:
    made = dcmread(write_secondary_capture(picture(), scan, tmp_path / "sc.dcm", bundle="lungs"))
    assert np.array_equal(made.pixel_array[:90], picture())
    assert made.SOPClassUID.name == "Secondary Capture Image Storage"
    assert made.file_meta.TransferSyntaxUID.name == "RLE Lossless"
    assert (made.PatientID, str(made.PatientName), made.StudyInstanceUID) == ("P1", "Phantom", "1.2.3.4")
    assert made.SeriesInstanceUID != scan.source.series
    assert DISCLAIMER in made.SeriesDescription and DISCLAIMER in made.ImageComments
    assert made.BurnedInAnnotation == "NO" and made.Modality == "OT"


@pytest.mark.parametrize("columns", [40, 700, 3000])
def test_the_sentence_is_burnt_in_below(columns: int) -> None:
    """The banner has ink across most of its width where the sentence stands, and none at its edges."""
    made = with_banner(picture(30, columns))
    assert made.shape[0] > 30 and made.shape[1] >= max(columns, 200)
    left = (made.shape[1] - columns) // 2
    assert np.array_equal(made[:30, left : left + columns], picture(30, columns))
    ink = np.flatnonzero((made[30:] > 128).any(axis=(0, 2)))
    assert np.ptp(ink) > 0.2 * made.shape[1]
    assert ink.min() > 3 and ink.max() < made.shape[1] - 4
    rows = np.flatnonzero((made[30:] > 128).any(axis=(1, 2)))
    assert rows.min() > 0 and rows.max() < made.shape[0] - 31


def test_unusable_requests(scan: Volume, tmp_path: Path) -> None:
    target = tmp_path / "sc.dcm"
    with pytest.raises(DataError, match="A secondary capture needs a DICOM scan"):
        write_secondary_capture(picture(), Volume(scan.array, scan.affine), target)
    for wrong in (picture()[..., 0], picture().astype(float)):
        with pytest.raises(DataError, match="give RGB bytes"):
            write_secondary_capture(wrong, scan, target)
    assert not target.exists()
