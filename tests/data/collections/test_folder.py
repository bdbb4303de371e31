from __future__ import annotations

from pathlib import Path

import pytest

from medresnet3d.errors import ConfigError, DataError
from tests.data.collections.trap import Result, paint, write


def test_a_folder_above_everything_is_no_class(tmp_path: Path) -> None:
    for name in ("data/images/benign/1.png", "data/images/benign/deep/2.png", "data/images/malignant/1.png"):
        paint(tmp_path / "root" / name)
    result = Result("folder", tmp_path / "root")
    assert sorted(entry["label"] for entry in result.entries()) == ["benign", "benign", "malignant"]
    assert result.raw["labels"] == ["benign", "malignant"]


def test_parts_of_the_split_may_be_folders_and_numbers_may_repeat(tmp_path: Path) -> None:
    for part in ("Train", "valid", "TEST"):
        for label in ("0", "1", "10", "2"):
            paint(tmp_path / "root" / part / label / "1.jpg")
    result = Result("folder", tmp_path / "root")
    assert [len(result.entries(section)) for section in ("training", "validation", "test")] == [4, 4, 4]
    assert result.raw["labels"] == ["0", "1", "2", "10"]


def test_patients_are_read_from_the_names(tmp_path: Path) -> None:
    for name in ("a/p1_1.png", "a/p1_2.png", "b/p1_3.png", "b/p2_1.png", "b/nameless.png"):
        paint(tmp_path / "root" / name)
    result = Result("folder", tmp_path / "root", options={"patient": r"(p\d+)_"})
    assert [entry["patient"] for entry in result.entries()] == ["p1", "p1", "p1", "p2"]
    assert result.dropped == {"no patient in the file name": 1}
    assert result.raw["group_kind"] == "patient"
    alone = Result("folder", tmp_path / "root")
    assert len({entry["patient"] for entry in alone.entries()}) == 5 and "No patient is known" in alone.warnings[0]


def test_slips(tmp_path: Path) -> None:
    paint(tmp_path / "root" / "benign" / "1.png")
    with pytest.raises(DataError, match="needs at least two class folders, but there is benign"):
        Result("folder", tmp_path / "root")
    paint(tmp_path / "root" / "malignant" / "1.png")
    with pytest.raises(ConfigError, match="is no regular expression"):
        Result("folder", tmp_path / "root", options={"patient": "("})
    paint(tmp_path / "root" / "stray.png")
    write(tmp_path / "root" / "benign" / "notes.txt", "x")
    assert Result("folder", tmp_path / "root").dropped == {"not in a class folder": 1}
