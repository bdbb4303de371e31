from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medresnet3d.errors import DataError
from medresnet3d.io.detections import (
    COLUMNS,
    SUBMISSION_COLUMNS,
    box_corners,
    centres_and_diameters,
    change_handedness,
    detection_rows,
    findings_table,
    submission_rows,
    table_text,
    write_table,
)

DETECTIONS = np.array([[1.5, -2.0, 30.0, 6.5, 0.9], [0.0, 4.0, -3.0, 5.0, 0.25]])
numbers = st.floats(-500, 500, allow_nan=False)


@given(st.lists(st.tuples(numbers, numbers, numbers), max_size=5))
def test_the_way_to_lps_is_the_way_back(points: list[tuple[float, float, float]]) -> None:
    table = np.array(points).reshape(-1, 3)
    np.testing.assert_array_equal(change_handedness(change_handedness(table)), table)
    np.testing.assert_array_equal(change_handedness(table), table * (-1, -1, 1))


def test_the_submission_has_luna16s_columns_and_signs_and_no_minus_zero(tmp_path: Path) -> None:
    path = write_table(submission_rows("1.3.6", DETECTIONS), SUBMISSION_COLUMNS, tmp_path / "d.csv")
    assert path.read_text().splitlines() == [
        "seriesuid,coordX,coordY,coordZ,probability",
        "1.3.6,-1.5,2.0,30.0,0.9",
        "1.3.6,0.0,-4.0,-3.0,0.25",
    ]
    assert submission_rows("1.3.6", np.zeros((0, 5))) == []


def test_a_table_without_rows_has_its_header_and_nan_is_an_empty_cell() -> None:
    assert table_text([], COLUMNS) == "x,y,z,diameter_mm,probability\n"
    (row,) = csv.DictReader(table_text([{"a": float("nan"), "b": 1}], ("a", "b")).splitlines())
    assert row == {"a": "", "b": "1"}


def test_rows_are_plain_values() -> None:
    assert detection_rows(DETECTIONS.astype(np.float32))[0] == {
        "x": 1.5,
        "y": -2.0,
        "z": 30.0,
        "diameter_mm": 6.5,
        "probability": 0.9,
    }


def test_boxes_in_mm_and_in_pixels() -> None:
    found = box_corners([[0, 1, 2, 4, 6, 8], [10, 20, 14, 26]])
    np.testing.assert_array_equal(found, [[[0, 1, 2], [4, 6, 8]], [[-14, -26, 0], [-10, -20, 0]]])
    np.testing.assert_allclose(
        centres_and_diameters([[0, 1, 2, 4, 6, 8], [10, 20, 14, 26]]), [[2, 3.5, 5, 5], [-12, -23, 0, 5]]
    )
    assert box_corners([]).shape == (0, 2, 3) and centres_and_diameters([]).shape == (0, 4)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([1, 2, 3, 4, 5], "give x0, y0, z0"),
        ([0, 0, 0, 1, 1, float("inf")], "give x0, y0, z0"),
        ([5, 0, 4, 9], "lowest corner comes first"),
    ],
)
def test_malformed_boxes_are_refused(box: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        box_corners([box])


def test_findings_that_count_come_before_those_to_ignore() -> None:
    table = findings_table([[0, 0, 0, 2, 2, 2]], [[4, 4, 4, 8, 8, 8], [0, 0, 0, 1, 1, 1]])
    np.testing.assert_allclose(table, [[1, 1, 1, 2, 0], [6, 6, 6, 4, 1], [0.5, 0.5, 0.5, 1, 1]])
    assert findings_table([]).shape == (0, 5)
