from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.collections.trap import Result, paint, write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    base = tmp_path / "e_optha_EX"
    paint(base / "EX" / "E1" / "C1.jpg", [[[9, 9, 9], [90, 90, 90]]])
    paint(base / "EX" / "E1" / "C2.JPG", [[[9, 9, 9], [90, 90, 90]]])
    for name in ("C1", "C2"):
        paint(base / "Annotation_EX" / "E1" / f"{name}_EX.png", [[0, 255]])
    paint(base / "healthy" / "E3" / "C1.jpg", [[[9, 9, 9], [90, 90, 90]]])
    return tmp_path


def test_folder_is_the_patient_and_names_repeat_between_folders(root: Path) -> None:
    result = Result("eophtha", root, task="exudate_present")
    found = sorted((entry["patient"], Path(entry["image"]).stem, entry["label"]) for entry in result.entries())
    assert found == [("E1", "C1", "exudates"), ("E1", "C2", "exudates"), ("E3", "C1", "healthy")]


def test_healthy_photographs_get_an_empty_map(root: Path) -> None:
    from PIL import Image

    result = Result("eophtha", root)
    maps = {entry["patient"]: result.file(entry["mask"]) for entry in result.entries()}
    assert list(Image.open(maps["E1"]).getdata()) == [0, 1]
    assert list(Image.open(maps["E3"]).getdata()) == [0, 0]


def test_leftovers_and_the_other_part_are_not_read(root: Path) -> None:
    write(root / "e_optha_EX" / "Annotation_EX" / "E1" / "Thumbs.db", b"\xd0\xcf")
    paint(root / "e_optha_MA" / "MA" / "E8" / "C8.jpg")
    paint(root / "e_optha_MA" / "healthy" / "E9" / "C9.jpg")
    result = Result("eophtha", root)
    assert {entry["patient"] for entry in result.entries()} == {"E1", "E3"} and result.dropped == {}
