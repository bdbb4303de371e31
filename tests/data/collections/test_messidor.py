from __future__ import annotations

from pathlib import Path

import pytest

from medresnet3d.data.preparation.mimics import write_table
from tests.data.collections.trap import Result, paint

HEADER = ("Image name", "Ophthalmologic department", "Retinopathy grade", "Risk of macular edema ")


def base(root: Path, number: int, *rows: tuple[str, int, int], name: str = "Annotation_Base{}.xls") -> None:
    for image, *_ in rows:
        paint(root / f"Base{number}" / f"Base{number}" / f"{image}.tif")
    lines = [(f"{image}.tif", "CHU", retinopathy, edema) for image, retinopathy, edema in rows]
    write_table(root / name.format(number), [HEADER, *lines])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "messidor"
    base(root, 11, ("20051019_38557_0100_PP", 1, 2), ("20051020_64007_0100_PP", 0, 0))
    return root


def test_errata_corrects_a_grade(root: Path) -> None:
    assert Result("messidor", root).values("label") == {
        "20051019_38557_0100_PP.tif": "grade 1",
        "20051020_64007_0100_PP.tif": "grade 3",
    }


def test_errata_names_copies_in_base_33_only(root: Path) -> None:
    base(root, 33, ("20051202_55582_0400_PP", 0, 0), ("20051202_11111_0400_PP", 2, 0))
    base(root, 32, ("20051202_41076_0400_PP", 3, 1))
    result = Result("messidor", root)
    assert result.dropped == {"copy by the errata": 1}
    assert result.values("base")["20051202_41076_0400_PP.tif"] == "Base32"


def test_names_of_tables_vary_and_an_update_wins(root: Path) -> None:
    base(root, 12, ("20051109_50000_0200_PP", 0, 0), name="Annotation Base{}.xls")
    base(root, 12, ("20051109_50000_0200_PP", 2, 1), name="Annotation_Base{}_update2016.xls")
    result = Result("messidor", root)
    assert result.values("retinopathy")["20051109_50000_0200_PP.tif"] == 2
    assert len(result.entries()) == 3


def test_images_may_lie_in_one_folder(root: Path) -> None:
    (root / "all").mkdir()
    for image in sorted((root / "Base11" / "Base11").iterdir()):
        image.rename(root / "all" / image.name)
    assert len(Result("messidor", root).entries()) == 2


def test_grade_0_of_edema_is_a_class_too(root: Path) -> None:
    assert sorted(Result("messidor", root, task="edema").values("label").values()) == ["high", "none"]
