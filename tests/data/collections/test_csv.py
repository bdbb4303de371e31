from __future__ import annotations

from pathlib import Path

import pytest

from medresnet3d.data.preparation.prepare import prepare
from medresnet3d.errors import DataError
from tests.data.collections.trap import Result, paint, write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("images/a.png", "images/b.png", "elsewhere/c.JPG"):
        paint(tmp_path / "root" / name)
    return tmp_path / "root"


def test_images_are_found_by_path_name_or_stem_and_other_columns_are_carried_along(root: Path) -> None:
    rows = "images/a.png;x;1;50\nb.png;y;1;51\nc;x;2;\nlost.png;y;3;1\n"
    write(root / "t.csv", f"image;label;patient;Age\n{rows}")
    result = Result("csv", root)
    assert result.values("label") == {"a.png": "x", "b.png": "y", "c.JPG": "x"}
    assert result.values("Age") == {"a.png": "50", "b.png": "51", "c.JPG": None}
    assert result.values("patient") == {"a.png": "1", "b.png": "1", "c.JPG": "2"}
    assert result.dropped == {"image file missing": 1}


def test_columns_are_named_by_options(root: Path) -> None:
    write(root / "t.tsv", "file\tdx\twoman\tset\na\tx\t1\ttrain\nb\ty\t2\tTest\n")
    options = {"image": "file", "label": "dx", "patient": "woman", "section": "set"}
    result = Result("csv", root, options=options)
    assert [entry["patient"] for entry in result.entries("test")] == ["2"]


def test_a_row_without_truth_is_dropped(root: Path) -> None:
    write(root / "t.csv", "image,label,target\na,x,3.5\nb,,unknown\n")
    assert Result("csv", root).dropped == {"no truth": 1}
    numbers = Result("csv", root, task="regression")
    assert numbers.values("label") == {"a.png": 3.5} and numbers.dropped == {"no truth": 1}


def test_masks_with_their_classes(root: Path) -> None:
    paint(root / "m.png", [[0, 1, 2]])
    write(root / "t.csv", "image,mask\na,m.png\nb,lost.png\n")
    result = Result("csv", root, task="segmentation", options={"classes": "background, nucleus, cytoplasm"})
    assert result.raw["labels"] == ["background", "nucleus", "cytoplasm"]
    assert result.mask("a.png").tolist() == [[0, 1, 2]] and result.dropped == {"mask file missing": 1}


def test_the_table_itself_may_be_given_and_folds_kept(root: Path) -> None:
    write(root / "first.csv", "image,label,patient,fold\na,x,1,3\nb,y,2,4\n")
    write(root / "second.csv", "nothing\n1\n")
    done = prepare("csv", root / "first.csv", root / "m.json")
    assert done.report.sections["training"]["entries"] == 2
    assert '"fold": 3' in done.path.read_text()
    with pytest.raises(DataError, match="the column 'image' is missing; its columns are nothing"):
        Result("csv", root, options={"table": "second"})
