from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.collections.trap import Result, paint


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "DRIVE"
    paint(root / "training" / "images" / "21_training.tif", [[[9, 9, 9], [90, 90, 90]]])
    paint(root / "training" / "1st_manual" / "21_manual1.gif", [[0, 255]])
    paint(root / "training" / "mask" / "21_training_mask.gif", [[255, 255]])
    paint(root / "test" / "images" / "01_test.tif", [[[9, 9, 9], [90, 90, 90]]])
    return root


def test_vessels_are_gifs_of_0_and_255(root: Path) -> None:
    assert Result("drive", root).mask("21_training.tif").tolist() == [[0, 1]]


def test_newer_downloads_have_no_vessels_for_the_test_part(root: Path) -> None:
    (entry,) = Result("drive", root).entries("test")
    assert "mask" not in entry and entry["patient"] == "01"


def test_either_observer_may_be_the_truth(root: Path) -> None:
    paint(root / "test" / "1st_manual" / "01_manual1.gif", [[0, 255]])
    paint(root / "test" / "2nd_manual" / "01_manual2.gif", [[255, 0]])
    assert Result("drive", root).mask("01_test.tif").tolist() == [[0, 1]]
    assert Result("drive", root, options={"observer": "2nd"}).mask("01_test.tif").tolist() == [[1, 0]]
