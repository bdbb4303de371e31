from __future__ import annotations

from pathlib import Path

from tests.data.collections.trap import Result, paint, write


def test_cells_with_named_specimens(tmp_path: Path) -> None:
    root = tmp_path / "i3a"
    for number in (1, 2, 3):
        paint(root / "training" / f"{number:05d}.png")
        paint(root / "training" / f"{number:05d}_Mask.png", [[0, 255]])
    write(root / "gt_training.csv", "Id,Image class,Specimen ID\n1,Homogeneous,4\n2,NuMem,4\n3,Golgi,5\n")
    result = Result("i3a", root)
    assert result.values("patient") == {
        "00001.png": "specimen4",
        "00002.png": "specimen4",
        "00003.png": "specimen5",
    }
    assert result.values("label")["00002.png"] == "NuMem" and result.dropped == {} and not result.warnings


def test_without_specimens_blocks_of_cells_are_groups_and_a_warning_says_so(tmp_path: Path) -> None:
    root = tmp_path / "i3a"
    numbers = [1, 2, 150, 151, 152, 10000]
    for number in numbers:
        paint(root / "training" / f"{number:05d}.png")
    rows = "".join(f"{number},Speckled\n" for number in range(152, 0, -1))
    write(root / "gt_training.csv", f"Id,Image class\n10000,Golgi\n{rows}")
    result = Result("i3a", root)
    groups = result.values("patient")
    assert groups["00001.png"] == groups["00150.png"] != groups["00151.png"] == groups["00152.png"]
    assert result.raw["group_kind"] == "block of cells in succession"
    assert "too good" in result.warnings[0]


def test_the_four_fields_of_a_specimen_are_one_group(tmp_path: Path) -> None:
    root = tmp_path / "task2"
    for name in ("001_p1", "001_p2", "012_p4"):
        paint(root / "training" / f"{name}.png", [[[9, 40, 9], [9, 200, 9]]])
        paint(root / "training" / f"{name}_Mask.png", [[0, 255]])
    write(root / "gt_training.csv", "Specimen ID,Class\n1,Mitotic Spindle\n12,golgi\n")
    result = Result("i3a_specimens", root)
    assert result.values("patient") == {"001_p1.png": "1", "001_p2.png": "1", "012_p4.png": "12"}
    assert result.values("label") == {"001_p1.png": "MitSp", "001_p2.png": "MitSp", "012_p4.png": "Golgi"}
    assert Result("i3a_specimens", root, task="cells").mask("012_p4.png").tolist() == [[0, 1]]
