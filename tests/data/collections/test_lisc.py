from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.collections.trap import Result, paint


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for kind in ("Baso", "eosi", "mixt"):
        paint(tmp_path / "LISC Database" / "Main Dataset" / kind / "1.bmp")
        area = tmp_path / "LISC Database" / "Ground Truth Segmentation" / kind / "areaforexpert1" / "1_expert.bmp"
        paint(area, [[0, 90, 255]] if kind == "eosi" else [[0, 0, 255]])
    return tmp_path / "LISC Database"


def test_images_with_several_cells_have_no_class(root: Path) -> None:
    result = Result("lisc", root)
    assert [entry["label"] for entry in result.entries()] == ["basophil", "eosinophil"]
    assert result.dropped == {"several cells in one image": 1}


def test_numbers_start_anew_in_each_folder(root: Path) -> None:
    assert sorted(entry["patient"] for entry in Result("lisc", root).entries()) == ["baso_1", "eosi_1"]
    masks = {entry["patient"]: entry["mask"] for entry in Result("lisc", root, task="leukocyte").entries()}
    assert len(set(masks.values())) == 3


def test_cytoplasm_is_darker_than_the_nucleus_and_counts(root: Path) -> None:
    from PIL import Image

    result = Result("lisc", root, task="leukocyte")
    mask = next(entry["mask"] for entry in result.entries() if entry["patient"] == "eosi_1")
    assert list(Image.open(result.file(mask)).getdata()) == [0, 1, 1]
