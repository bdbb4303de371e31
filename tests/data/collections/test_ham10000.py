from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.collections.trap import Result, paint, write

HEADER = "lesion_id,image_id,dx,dx_type,age,sex,localization\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in (1, 2, 3):
        paint(tmp_path / "ham" / f"HAM10000_images_part_{1 + number % 2}" / f"ISIC_002430{number}.jpg")
    return tmp_path / "ham"


def test_two_images_of_a_lesion_are_one_group(root: Path) -> None:
    rows = "HAM_1,ISIC_0024301,mel,histo,70.0,male,back\nHAM_1,ISIC_0024302,mel,histo,70.0,male,back\n"
    write(root / "HAM10000_metadata.csv", HEADER + rows + "HAM_2,ISIC_0024303,nv,follow_up,,unknown,face\n")
    result = Result("ham10000", root, folds=2)
    assert [entry["patient"] for entry in result.entries()] == ["HAM_1", "HAM_1", "HAM_2"]
    assert result.entries()[0]["fold"] == result.entries()[1]["fold"] != result.entries()[2]["fold"]
    assert result.raw["group_kind"] == "lesion"
    assert result.entries()[0]["age"] == 70 and "age" not in result.entries()[2]


@pytest.mark.parametrize("name", ["HAM10000_metadata", "HAM10000_metadata.csv", "HAM10000_metadata.tab"])
def test_the_table_comes_with_several_suffixes_and_separators(root: Path, name: str) -> None:
    text = HEADER + "HAM_1,ISIC_0024301,akiec,histo,70.0,male,back\n"
    write(root / name, text.replace(",", "\t") if name.endswith(".tab") else text)
    assert [entry["label"] for entry in Result("ham10000", root).entries()] == ["akiec"]


def test_what_is_not_used_is_counted(root: Path) -> None:
    rows = "HAM_1,ISIC_0024301,mel,histo,70,male,back\nHAM_9,ISIC_0099999,nv,histo,70,male,back\n"
    write(root / "HAM10000_metadata.csv", HEADER + rows)
    dropped = Result("ham10000", root).dropped
    assert dropped == {"image file missing": 1, "image without a row in the table": 2}


def test_lesion_masks_are_white_on_black_and_no_images(root: Path) -> None:
    write(root / "HAM10000_metadata.csv", HEADER + "HAM_1,ISIC_0024301,mel,histo,70,male,back\n")
    mask = root / "HAM10000_segmentations_lesion_tschandl" / "ISIC_0024301_segmentation.png"
    paint(mask, [[0, 255, 255], [0, 0, 255]])
    assert Result("ham10000", root, task="lesion").mask("ISIC_0024301.jpg").tolist() == [[0, 1, 1], [0, 0, 1]]
    assert len(Result("ham10000", root).entries()) == 1
