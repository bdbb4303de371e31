from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medresnet3d.data.collections.ddsm import read_overlay
from medresnet3d.errors import DataError
from tests.data.collections.trap import Result, paint, write

ICS = """ics_version 1.0
filename A-1234-1
DATE_OF_STUDY 2 7 1995
PATIENT_AGE 61
FILM
DENSITY 3
DIGITIZER LUMISYS LASER
SEQUENCE
LEFT_CC LINES 12 PIXELS_PER_LINE 10 BITS_PER_PIXEL 12 RESOLUTION 50 OVERLAY
RIGHT_CC LINES 12 PIXELS_PER_LINE 10 BITS_PER_PIXEL 12 RESOLUTION 50 NON_OVERLAY
"""
OVERLAY = """TOTAL_ABNORMALITIES 1
ABNORMALITY 1
LESION_TYPE MASS SHAPE IRREGULAR MARGINS SPICULATED
LESION_TYPE CALCIFICATION TYPE PLEOMORPHIC DISTRIBUTION CLUSTERED
ASSESSMENT 5
SUBTLETY 4
PATHOLOGY {pathology}
TOTAL_OUTLINES 2
BOUNDARY
2 3 2 2 2 2 4 4 4 4 4 6 6 6 6 0 0 0 0 0 #
\tCORE
3 4 2 4 6 0 #
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    case = tmp_path / "cases" / "cancers" / "cancer_01" / "case1234"
    write(case / "A-1234-1.ics", ICS)
    write(case / "A_1234_1.LEFT_CC.OVERLAY", OVERLAY.format(pathology="MALIGNANT"))
    for view in ("LEFT_CC", "RIGHT_CC"):
        write(case / f"A_1234_1.{view}.LJPEG", b"\xff\xd8")
        paint(case / f"A_1234_1.{view}.png", np.arange(120).reshape(12, 10))
    return tmp_path / "cases"


def overlay(root: Path) -> Path:
    return next(root.rglob("*.OVERLAY"))


def test_chain_code_begins_with_column_and_row_and_turns_clockwise_from_up(root: Path) -> None:
    (found,) = read_overlay(overlay(root))
    assert found.outline[0].tolist() == [3, 2] and found.outline[4].tolist() == [3, 6]
    assert found.outline[9].tolist() == [8, 6] and found.outline[-1].tolist() == [3, 2]
    assert found.kind.startswith("MASS SHAPE IRREGULAR") and "CALCIFICATION" in found.kind
    write(root / "diagonal.OVERLAY", "ABNORMALITY 1\nPATHOLOGY BENIGN\nBOUNDARY\n5 5 1 3 5 7 #\n")
    outline = read_overlay(root / "diagonal.OVERLAY")[0].outline
    assert outline.tolist() == [[5, 5], [4, 6], [5, 7], [6, 6], [5, 5]]


def test_outline_lies_on_the_film_of_any_size(root: Path) -> None:
    mask = Result("ddsm", root, task="findings").mask("A_1234_1.LEFT_CC.png")
    assert mask.shape == (12, 10) and mask[3:9, 2:7].all() and not mask[:3].any() and not mask[9:].any()
    paint(overlay(root).with_name("A_1234_1.LEFT_CC.png"), np.zeros((6, 5)))
    half = Result("ddsm", root, task="findings").mask("A_1234_1.LEFT_CC.png")
    assert half.shape == (6, 5) and half[2:4, 1:3].all() and not half[0].any() and not half[:, 4].any()


def test_the_other_breast_of_a_case_with_cancer_is_not_normal(root: Path) -> None:
    result = Result("ddsm", root)
    assert result.values("label") == {"A_1234_1.LEFT_CC.png": "malignant"}
    assert result.dropped == {"no abnormality marked in a case that has some": 1}


def test_unproven_has_no_class_and_without_callback_is_benign(root: Path) -> None:
    write(overlay(root), OVERLAY.format(pathology="BENIGN_WITHOUT_CALLBACK"))
    assert Result("ddsm", root).values("label") == {"A_1234_1.LEFT_CC.png": "benign"}
    write(overlay(root), OVERLAY.format(pathology="UNPROVEN"))
    with pytest.raises(DataError, match="1 pathology unproven"):
        Result("ddsm", root)


def test_a_film_in_ljpeg_only_is_told(root: Path) -> None:
    overlay(root).with_name("A_1234_1.RIGHT_CC.png").unlink()
    assert Result("ddsm", root).dropped == {"film in LJPEG only, convert it to PNG": 1}


def test_what_the_case_file_says(root: Path) -> None:
    (entry,) = Result("ddsm", root).entries()
    assert (entry["patient"], entry["age"], entry["density"], entry["view"]) == ("case1234", 61, 3, "LEFT_CC")
