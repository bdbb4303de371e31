from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.collections.trap import Result, paint, write

HEADER = "Image name,Retinopathy grade,Risk of macular edema ,,,,,,,,,\n"
TABLE = "{letter}. IDRiD_Disease Grading_{part} Labels.csv"


def grade(root: Path, part: str, rows: str, header: str = HEADER) -> None:
    letter = "a" if part == "Training" else "b"
    write(root / "B. Disease Grading" / "2. Groundtruths" / TABLE.format(letter=letter, part=part), header + rows)


def photograph(root: Path, part: str, name: str, pixels: object = None) -> Path:
    letter = "a" if part == "Training" else "b"
    folder = root / "B. Disease Grading" / "1. Original Images" / f"{letter}. {part} Set"
    return paint(folder / f"{name}.jpg", pixels)


def noise(seed: int) -> object:
    import numpy as np

    return np.random.default_rng(seed).integers(30, 250, (64, 64, 3))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "idrid"
    for seed, (part, name) in enumerate((("Training", "001"), ("Training", "002"), ("Testing", "001"))):
        photograph(root, part, f"IDRiD_{name}", noise(seed))
    grade(root, "Training", "IDRiD_001,3,2,,,,,,,,,\nIDRiD_002,0,0,,,,,,,,,\n")
    grade(root, "Testing", "IDRiD_001,4,1\n", "Image name,Retinopathy grade,Risk of macular edema \n")
    return root


def test_columns_have_trailing_spaces_and_empty_neighbours(root: Path) -> None:
    result = Result("idrid", root)
    assert [entry["label"] for entry in result.entries("training")] == ["severe", "no retinopathy"]
    edema = Result("idrid", root, task="edema")
    assert [entry["label"] for entry in edema.entries("training")] == ["high", "none"]


def test_numbers_start_anew_in_the_test_part(root: Path) -> None:
    result = Result("idrid", root)
    assert [entry["label"] for entry in result.entries("test")] == ["proliferative"]
    assert len(result.entries("training")) == 2 and result.dropped == {}


def test_localisation_repeats_the_photographs_and_is_not_read(root: Path) -> None:
    paint(root / "C. Localization" / "1. Original Images" / "a. Training Set" / "IDRiD_001.jpg")
    paint(root / "C. Localization" / "1. Original Images" / "a. Training Set" / "IDRiD_009.jpg")
    assert all("B. Disease Grading" in entry["image"] for entry in Result("idrid", root).entries())
    assert Result("idrid", root).dropped == {}


def test_copies_are_dropped_and_both_where_their_grades_differ(root: Path) -> None:
    photograph(root, "Training", "IDRiD_003", noise(1))
    assert_copy = "IDRiD_001,3,2\nIDRiD_002,0,0\nIDRiD_003,{grade},0\n"
    grade(root, "Training", assert_copy.format(grade=0))
    assert Result("idrid", root).dropped == {"copy of another image": 1}
    grade(root, "Training", assert_copy.format(grade=1))
    result = Result("idrid", root)
    assert result.dropped == {"copies with different labels": 2}
    assert [Path(entry["image"]).stem for entry in result.entries("training")] == ["IDRiD_001"]


def test_a_training_photograph_that_is_also_tested_leaves_the_training_part(root: Path) -> None:
    photograph(root, "Training", "IDRiD_003", noise(2))
    grade(root, "Training", "IDRiD_001,3,2\nIDRiD_002,0,0\nIDRiD_003,4,1\n")
    result = Result("idrid", root)
    assert len(result.entries("training")) == 2 and len(result.entries("test")) == 1
    assert result.dropped == {"look-alike group also in the test part": 1}


def test_lesions_are_red_masks_of_which_some_are_missing(tmp_path: Path) -> None:
    root = tmp_path / "idrid" / "A. Segmentation"
    paint(root / "1. Original Images" / "a. Training Set" / "IDRiD_01.jpg", [[[9, 9, 9], [90, 9, 9], [9, 90, 9]]])
    paint(root / "1. Original Images" / "b. Testing Set" / "IDRiD_55.jpg", [[[9, 9, 9], [90, 9, 9], [9, 90, 9]]])
    truth = root / "2. All Segmentation Groundtruths"
    black, red = [0, 0, 0], [255, 0, 0]
    paint(truth / "a. Training Set" / "1. Microaneurysms" / "IDRiD_01_MA.tif", [[black, red, black]])
    paint(truth / "a. Training Set" / "5. Optic Disc" / "IDRiD_01_OD.tif", [[black, red, red]])
    paint(truth / "b. Testing Set" / "3. Hard Exudates" / "IDRiD_55_EX.tif", [[red, black, black]])
    result = Result("idrid", root.parent, task="lesions")
    assert result.mask("IDRiD_01.jpg").tolist() == [[0, 1, 5]]
    assert result.mask("IDRiD_55.jpg").tolist() == [[3, 0, 0]]
    assert len(result.entries("test")) == 1
