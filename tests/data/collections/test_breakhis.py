from __future__ import annotations

from pathlib import Path

import pytest

from medresnet3d.errors import ConfigError
from tests.data.collections.trap import Result, paint, write

BENIGN = "benign/SOB/adenosis/SOB_B_A_14-22549AB"
DUCTAL = "malignant/SOB/ductal_carcinoma/SOB_M_DC_14-{0}"
LOBULAR = "malignant/SOB/lobular_carcinoma/SOB_M_LC_14-{0}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "BreaKHis_v1"
    files = (
        f"{BENIGN}/40X/SOB_B_A-14-22549AB-40-001.png",
        f"{BENIGN}/100X/SOB_B_A-14-22549AB-100-001.png",
        f"{DUCTAL.format('11951')}/40X/SOB_M_DC-14-11951-40-001.png",
        f"{DUCTAL.format('13412')}/40X/SOB_M_DC-14-13412-40-001.png",
        f"{LOBULAR.format('13412')}/40X/SOB_M_LC-14-13412-40-001.png",
    )
    for file in files:
        paint(root / "histology_slides" / "breast" / file)
    return root


def test_year_and_slide_are_the_patient(root: Path) -> None:
    result = Result("breakhis", root)
    assert result.values("patient") == {
        "SOB_B_A-14-22549AB-40-001.png": "14-22549AB",
        "SOB_B_A-14-22549AB-100-001.png": "14-22549AB",
        "SOB_M_DC-14-11951-40-001.png": "14-11951",
    }
    assert result.raw["group_kind"] == "patient"


def test_the_slide_under_two_types_is_dropped(root: Path) -> None:
    for task in ("malignancy", "type"):
        assert Result("breakhis", root, task=task).dropped == {"slide under two tumour types": 2}


def test_a_name_without_the_official_form_is_counted(root: Path) -> None:
    paint(root / "SOB_B_X-14-22549AB-40-001.png")
    assert Result("breakhis", root).dropped["name without the official form"] == 1


def test_one_magnification(root: Path) -> None:
    result = Result("breakhis", root, options={"magnification": "100"})
    assert list(result.by_name()) == ["SOB_B_A-14-22549AB-100-001.png"]
    assert result.dropped["other magnification"] == 2
    with pytest.raises(ConfigError, match="the magnification '50' is none of all, 40"):
        Result("breakhis", root, options={"magnification": "50"})


def test_official_divisions_come_as_one_table_or_as_five(root: Path) -> None:
    name = "SOB_M_DC-14-11951-40-001.png"
    paths = f"BreaKHis_v1/histology_slides/breast/{DUCTAL.format('11951')}/40X/{name}"
    write(root / "Folds.csv", f"fold,mag,grp,filename\n1,40,train,{paths}\n2,40,test,{paths}\n")
    assert len(Result("breakhis", root).entries("test")) == 0
    assert len(Result("breakhis", root, options={"official_fold": "2"}).entries("test")) == 1
    (root / "Folds.csv").unlink()
    write(root / "dsfold1.txt", f"SOB_B_A-14-22549AB-40-001.png|40|1|train\n{name}|40|1|test\n")
    assert [entry["patient"] for entry in Result("breakhis", root).entries("test")] == ["14-11951"]
    assert Result("breakhis", root, options={"official_fold": "0"}).entries("test") == []


def test_a_set_has_one_image_of_each_magnification_as_long_as_there_are_some(root: Path) -> None:
    for file in ("40X/SOB_B_A-14-22549AB-40-002.png", "400X/SOB_B_A-14-22549AB-400-007.png"):
        paint(root / "histology_slides" / "breast" / BENIGN / file)
    result = Result("breakhis", root, options={"grouping": "set"})
    images = [each["image"] for each in result.entries("training") if each["patient"] == "14-22549AB"]
    names = [[Path(name).stem[-7:] for name in ([each] if isinstance(each, str) else each)] for each in images]
    assert names == [["-40-001", "100-001", "400-007"], ["-40-002"]]
    with pytest.raises(ConfigError, match="the grouping 'pair' is none of image, set"):
        Result("breakhis", root, options={"grouping": "pair"})
