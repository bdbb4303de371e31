from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.collections.trap import Result, paint, write

WIDE = "id;set;image;intensity;id in image;pattern;x;y\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "contest"
    for part, count in (("training", 3), ("test", 2)):
        for number in range(1, count + 1):
            paint(root / part / f"{number:03d}.png", [[[9, 40, 9], [9, 200, 9]]])
            paint(root / part / f"{number:03d}_mask.png", [[0, 255]])
    write(root / "gt_training.csv", "id;pattern\n1;homogeneous\n2;homogeneous\n3;cytoplasmatic\n")
    write(root / "gt_test.csv", "id;pattern\n1;fine_speckled\n2;centromere\n")
    write(root / "training.csv", "id;intensity;w;h\n1;positive;8;6\n2;intermediate;8;6\n3;positive;8;6\n")
    write(root / "test.csv", "id;intensity;w;h\n1;positive;8;6\n2;positive;8;6\n")
    return root


def groups(result: Result, part: str) -> list[str]:
    return [entry["patient"] for entry in result.entries(part)]


def test_specimen_images_come_from_the_table_of_the_whole_contest(root: Path) -> None:
    rows = "1;training;7;positive;1;homogeneous;0;0\n2;training;7;intermediate;2;homogeneous;0;0\n"
    rows += "3;training;9;positive;1;cytoplasmatic;0;0\n4;test;2;positive;1;fine_speckled;0;0\n"
    write(root / "contest.csv", WIDE + rows + "5;test;2;positive;2;centromere;0;0\n")
    result = Result("icpr2012", root)
    assert groups(result, "training") == ["training_image7", "training_image7", "training_image9"]
    assert groups(result, "test") == ["test_image2", "test_image2"]
    assert result.raw["group_kind"] == "specimen image"


def test_without_it_runs_of_cells_are_the_groups(root: Path) -> None:
    result = Result("icpr2012", root)
    assert groups(result, "training") == ["training_run1", "training_run2", "training_run3"]
    assert result.raw["group_kind"] == "run of cells of one pattern and intensity" and result.warnings


def test_masks_lie_among_the_images_and_numbers_start_anew(root: Path) -> None:
    result = Result("icpr2012", root)
    assert [entry["label"] for entry in result.entries()] == [
        "homogeneous",
        "homogeneous",
        "cytoplasmatic",
        "fine_speckled",
        "centromere",
    ]
    assert result.dropped == {}
    assert [entry["intensity"] for entry in result.entries("training")] == ["positive", "intermediate", "positive"]
    masks = Result("icpr2012", root, task="cell")
    assert len({entry["mask"] for entry in masks.entries()}) == 5
