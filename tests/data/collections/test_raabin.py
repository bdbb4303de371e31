from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.collections.trap import Result, paint


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in (
        "Train/Basophil/20190526_162849_0",
        "Train/Basophil/20190526_162849_1",
        "TestA/Monocyte/95-5-27-1_12_1",
    ):
        paint(tmp_path / "raabin" / f"{name}.jpg")
    paint(tmp_path / "raabin" / "Test-B" / "Neutrophil" / "x1.jpg")
    return tmp_path / "raabin"


def test_cells_of_one_photograph_are_one_group(root: Path) -> None:
    groups = Result("raabin", root).values("patient")
    assert groups["20190526_162849_0.jpg"] == groups["20190526_162849_1.jpg"] == "20190526_162849"
    assert groups["95-5-27-1_12_1.jpg"] == "95-5-27-1_12"


def test_the_other_microscope_can_be_tested_by_itself(root: Path) -> None:
    assert Result("raabin", root).values("part")["x1.jpg"] == "Test-B"
    assert len(Result("raabin", root).entries("test")) == 2
    alone = Result("raabin", root, options={"test": "TestB"})
    assert [entry["label"] for entry in alone.entries("test")] == ["Neutrophil"]
    assert alone.dropped == {"in the part TestA": 1}
