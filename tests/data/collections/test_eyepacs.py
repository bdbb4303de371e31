from __future__ import annotations

from pathlib import Path

from tests.data.collections.trap import Result, paint, write


def test_both_eyes_are_one_patient(tmp_path: Path) -> None:
    root = tmp_path / "eyepacs"
    for name in ("10_left", "10_right", "13_left", "1010_right"):
        paint(root / "train" / f"{name}.jpeg")
    write(root / "trainLabels.csv", "image,level\n10_left,0\n10_right,4\n13_left,2\n1010_right,1\n")
    result = Result("eyepacs", root, folds=2)
    assert result.values("patient") == {
        "10_left.jpeg": "10",
        "10_right.jpeg": "10",
        "13_left.jpeg": "13",
        "1010_right.jpeg": "1010",
    }
    assert result.values("fold")["10_left.jpeg"] == result.values("fold")["10_right.jpeg"]
    referable = Result("eyepacs", root, task="referable").values("label")
    assert [referable[f"{name}.jpeg"] for name in ("10_left", "10_right", "13_left", "1010_right")] == [
        "not referable",
        "referable",
        "referable",
        "not referable",
    ]


def test_test_grades_came_later_in_another_table(tmp_path: Path) -> None:
    root = tmp_path / "eyepacs"
    paint(root / "train" / "10_left.jpeg")
    paint(root / "test" / "1_left.jpeg")
    write(root / "trainLabels.csv", "image,level\n10_left,0\n")
    assert Result("eyepacs", root).dropped == {"image without a row in the tables": 1}
    write(root / "retinopathy_solution.csv", "image,level,Usage\n1_left,3,Public\n")
    (entry,) = Result("eyepacs", root).entries("test")
    assert entry["label"] == "severe" and entry["usage"] == "Public"
