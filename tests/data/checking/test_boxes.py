from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medresnet3d.data import check_manifest
from medresnet3d.data.checking.boxes import box_problems
from medresnet3d.data.checking.cohort import examine
from medresnet3d.io import Source, Volume
from tests.data.checking.cohorts import Cohort, body, save_scan

SCAN = Volume(np.zeros((20, 20, 10)), np.array([[-1.0, 0, 0, -30], [0, -1, 0, 60], [0, 0, 2, 0], [0, 0, 0, 1]]))
PICTURE = Volume(np.zeros((40, 30, 1)), np.diag([-1.0, -1, 1, 1]), None, (), Source(format="image"))
INSIDE = [-45, 45, 4, -35, 55, 12]


def texts(volume: Volume, *boxes: list[float]) -> list[str]:
    return [text for level, kind, text in box_problems(volume, boxes) if (level, kind) == ("error", "box")]


def test_boxes_in_the_image_are_sound() -> None:
    assert texts(SCAN, INSIDE) == texts(PICTURE, [0, 0, 40, 30], [39, 29, 40, 30]) == texts(SCAN) == []


def test_boxes_outside_of_the_image_are_told_and_those_in_lps_are_recognised() -> None:
    (text,) = texts(SCAN, INSIDE, [100, 100, 0, 110, 110, 10])
    assert text.startswith("1 of 2 boxes, first [100, 100, 0, 110, 110, 10], have their centre outside of array")
    (text,) = texts(SCAN, [35, -55, 4, 45, -45, 12])
    assert "they are in LPS" in text
    (text,) = texts(PICTURE, [0, 50, 4, 60])
    assert "outside" in text and "LPS" not in text


@pytest.mark.parametrize(("volume", "box"), [(SCAN, [0, 0, 4, 4]), (PICTURE, [0, 0, 0, 4, 4, 4])])
def test_boxes_of_another_kind_of_image(volume: Volume, box: list[float]) -> None:
    (text,) = texts(volume, box)
    assert "is not of this kind of image" in text


def cohort(folder: Path) -> Cohort:
    entries = []
    for number in range(1, 5):
        save_scan(folder / f"s{number}.nii.gz", body(number))
        boxes = [[2, 2, 2, 8, 8, 8]] if number < 4 else []
        entries.append(
            {"image": f"s{number}.nii.gz", "boxes": boxes, "label": ["nodule"] * len(boxes), "patient": str(number)}
        )
    return Cohort(folder, {"name": "d", "task": "detection", "labels": ["nodule"], "training": entries})


@pytest.mark.parametrize("deep", [False, True])
def test_a_sound_cohort_has_no_finding_and_its_boxes_are_counted(tmp_path: Path, deep: bool) -> None:
    made = cohort(tmp_path)
    assert [str(one) for one in check_manifest(made.path, deep=deep)] == []
    with examine(made.path) as checked:
        assert checked.classes == {"training": {"nodule": 3}}


def test_boxes_are_checked_entry_by_entry_with_those_to_ignore(tmp_path: Path) -> None:
    made = cohort(tmp_path)
    made.change(2, excluded_boxes=[[500, 0, 0, 510, 10, 10]])
    raw = made.raw
    raw["training"].append({**raw["training"][0], "boxes": [[900, 0, 0, 910, 10, 10]], "position": [1, 1, 1]})
    made.write(raw)
    found = [str(one) for one in check_manifest(made.path) if "box" in str(one)]
    assert len(found) == 2 and any("[500" in text for text in found) and any("[900" in text for text in found)


def test_a_section_without_any_finding_is_told(tmp_path: Path) -> None:
    made = cohort(tmp_path)
    for number in range(1, 4):
        made.change(number, boxes=[], label=[])
    assert any("has no entry of nodule" in str(one) for one in check_manifest(made.path))
