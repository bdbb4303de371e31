from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.data.collections.trap import Result, paint, write

TABLE = """REFNUM BG CLASS SEVERITY X Y RADIUS
mdb001 G CIRC B 535 425 197
mdb002 G CIRC B 522 280 69
mdb003 D NORM
mdb005 F CIRC B 477 133 30
mdb005 F CIRC M 500 168 26
mdb059 F CIRC B
mdb216 D CALC M *NOTE 3*
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("mdb001", "mdb002", "mdb003", "mdb005", "mdb059", "mdb216"):
        paint(tmp_path / "all-mias" / f"{name}.pgm", np.pad([[90, 120]], ((500, 523), (500, 522))))
    write(tmp_path / "all-mias" / "Info.txt", TABLE)
    return tmp_path / "all-mias"


def test_rows_are_counted_from_the_bottom(root: Path) -> None:
    result = Result("mini_mias", root, task="findings")
    assert result.values("boxes")["mdb001.pgm"] == [[338, 402, 732, 796]]
    assert 1024 - 425 == (402 + 796) / 2


def test_findings_without_a_place_have_no_box(root: Path) -> None:
    result = Result("mini_mias", root, task="findings")
    assert sorted(result.by_name()) == ["mdb001.pgm", "mdb002.pgm", "mdb005.pgm"]
    assert result.dropped == {"no finding with a place": 3}
    assert result.values("label")["mdb005.pgm"] == ["benign", "malignant"]


def test_malignant_wins_over_benign_and_a_note_is_no_place(root: Path) -> None:
    assert Result("mini_mias", root).values("label") == {
        "mdb001.pgm": "benign",
        "mdb002.pgm": "benign",
        "mdb003.pgm": "normal",
        "mdb005.pgm": "malignant",
        "mdb059.pgm": "benign",
        "mdb216.pgm": "malignant",
    }
    assert Result("mini_mias", root, task="malignancy").dropped == {"normal film": 1}


def test_two_films_in_succession_are_one_woman(root: Path) -> None:
    women = Result("mini_mias", root, task="density").values("patient")
    assert women["mdb001.pgm"] == women["mdb002.pgm"] == "woman001"
    assert women["mdb003.pgm"] == "woman002" and women["mdb005.pgm"] == "woman003"


def test_each_lesion_with_a_place_is_a_case(root: Path) -> None:
    result = Result("mini_mias", root, task="lesion")
    found = [(Path(entry["image"]).name, entry["label"], entry["roi"]) for entry in result.entries()]
    assert ("mdb001.pgm", "benign", [338, 402, 732, 796]) in found
    assert [label for name, label, _ in found if name == "mdb005.pgm"] == ["benign", "malignant"]
    assert result.dropped == {"no finding with a place": 3}
