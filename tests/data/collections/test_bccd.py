from __future__ import annotations

from pathlib import Path

from tests.data.collections.trap import Result, paint, write

VOC = """<annotation><filename>other_name.png</filename><size><width>8</width><height>6</height></size>
<object><name>WBC</name><pose>Unspecified</pose><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>5</xmax><ymax>6</ymax></bndbox>
</object>{more}</annotation>"""
FLAT = "<object><name>RBC</name><bndbox><xmin>3</xmin><ymin>1</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object>"


def test_boxes_are_x_before_y_and_those_without_area_are_dropped(tmp_path: Path) -> None:
    root = tmp_path / "BCCD"
    paint(root / "JPEGImages" / "BloodImage_00001.jpg")
    write(root / "Annotations" / "BloodImage_00001.xml", VOC.format(more=FLAT))
    result = Result("bccd", root)
    assert result.entries()[0]["boxes"] == [[1, 2, 5, 6]] and result.entries()[0]["label"] == ["WBC"]
    assert result.dropped == {"box without area": 1}


def test_official_lists_are_the_split(tmp_path: Path) -> None:
    root = tmp_path / "BCCD"
    for number in range(3):
        paint(root / "JPEGImages" / f"BloodImage_0000{number}.jpg")
        write(root / "Annotations" / f"BloodImage_0000{number}.xml", VOC.format(more=""))
    for number, part in enumerate(("train", "val", "test")):
        write(root / "ImageSets" / "Main" / f"{part}.txt", f"BloodImage_0000{number}\n")
    write(root / "ImageSets" / "Main" / "trainval.txt", "BloodImage_00000\nBloodImage_00001\n")
    result = Result("bccd", root)
    assert [len(result.entries(part)) for part in ("training", "validation", "test")] == [1, 1, 1]


def test_augmented_copies_of_one_source_stay_together_whatever_folder_they_are_in(tmp_path: Path) -> None:
    root = tmp_path / "dataset2-master"
    for part, name in (("TRAIN", "_0_207"), ("TRAIN", "_1_300"), ("TEST", "_0_1616"), ("TEST_SIMPLE", "_1_5239")):
        paint(root / "images" / part / "MONOCYTE" / f"{name}.jpeg")
    paint(root / "images" / "TRAIN" / "NEUTROPHIL" / "_0_400.jpeg")
    result = Result("bccd", root, task="wbc", folds=2)
    assert set(result.raw) & {"training", "validation", "test"} == {"training"}
    folds: dict[str, set[int]] = {}
    for entry in result.entries():
        folds.setdefault(entry["patient"], set()).add(entry["fold"])
    assert sorted(folds) == ["MONOCYTE_0", "MONOCYTE_1", "NEUTROPHIL_0"]
    assert all(len(numbers) == 1 for numbers in folds.values())
