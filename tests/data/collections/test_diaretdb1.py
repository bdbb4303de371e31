from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.collections.trap import Result, paint, write

FINDINGS = ("hardexudates", "softexudates", "redsmalldots", "hemorrhages")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    base = tmp_path / "diaretdb1_v_1_1" / "resources"
    for number, greys in ((1, [0, 63, 126, 189, 252]), (2, [0, 63, 126, 126, 126])):
        name = f"image00{number}.png"
        paint(base / "images" / "ddb1_fundusimages" / name, [[[grey, grey, 9] for grey in (9, 50, 90, 120, 200)]])
        for finding in FINDINGS:
            paint(base / "images" / "ddb1_groundtruth" / finding / name, [greys if finding == FINDINGS[0] else [0] * 5])
    write(base / "traindatasets" / "trainset.txt", "image001.png \r\n")
    write(base / "testdatasets" / "testset.txt", "image002.png\n")
    return tmp_path / "diaretdb1_v_1_1"


def test_three_of_four_experts_are_enough(root: Path) -> None:
    result = Result("diaretdb1", root)
    assert result.mask("image001.png").tolist() == [[0, 0, 0, 1, 1]]
    assert not result.mask("image002.png").any()
    all_four = Result("diaretdb1", root, options={"confidence": "1"})
    assert all_four.mask("image001.png").tolist() == [[0, 0, 0, 0, 1]]


def test_exudates_that_two_experts_see_are_none(root: Path) -> None:
    labels = Result("diaretdb1", root, task="exudate_present").values("label")
    assert labels == {"image001.png": "hard exudate", "image002.png": "no hard exudate"}


def test_official_lists_are_the_split(root: Path) -> None:
    paint(root / "resources" / "images" / "ddb1_fundusimages" / "image003.png")
    for finding in FINDINGS:
        paint(root / "resources" / "images" / "ddb1_groundtruth" / finding / "image003.png", [[0]])
    result = Result("diaretdb1", root)
    assert [Path(entry["image"]).stem for entry in result.entries("training")] == ["image001"]
    assert [Path(entry["image"]).stem for entry in result.entries("test")] == ["image002"]
    assert result.dropped == {"in neither official list": 1}
