from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medresnet3d.data.preparation.radiographs import write_mammogram
from medresnet3d.io import load, require_same_grid
from tests.data.collections.trap import Result, paint, write

MASS = (
    "patient_id,breast_density,left or right breast,image view,abnormality id,abnormality type,mass shape,mass margins,"
    "assessment,pathology,subtlety,image file path,cropped image file path,ROI mask file path\n"
)
CALC = MASS.replace("breast_density", "breast density").replace("mass shape", "calc type")
CALC = CALC.replace("mass margins", "calc distribution")
FILM = np.arange(10 * 8, dtype=np.uint16).reshape(10, 8)
MASK = np.pad(np.full((3, 2), 255, np.uint16), ((4, 3), (2, 4)))


def row(patient: str, pathology: str, kind: str = "Mass", part: str = "Training", number: int = 1) -> str:
    name = f"{kind}-{part}_{patient}_LEFT_CC"
    roi = f"{name}_{number}/1.3.6.1.4.1.9590.1/1.3.6.1.4.1.9590.2"
    paths = f'{name}/1.3.6.1/1.3.6.2/000000.dcm,{roi}/000001.dcm,"{roi}/000000.dcm\n"'
    return f"{patient},3,LEFT,CC,{number},{kind.lower()},OVAL,SPICULATED,4,{pathology},4,{paths}\n"


def files(root: Path, name: str, *pixels: np.ndarray) -> None:
    write_mammogram(root / "CBIS-DDSM" / name / "07-20-2016-DDSM-30288" / "1.0-full mammogram" / "1-1.dcm", FILM)
    for number, one in enumerate(pixels, 1):
        write_mammogram(root / "CBIS-DDSM" / f"{name}_1" / "07-20-2016-DDSM" / "1.0-ROI" / f"1-{number}.dcm", one)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "cbis"
    files(root, "Mass-Training_P_00001_LEFT_CC", FILM[4:7, 2:4], MASK)
    files(root, "Mass-Training_P_00004_LEFT_CC", MASK, FILM[4:7, 2:4])
    files(root, "Mass-Test_P_00016_LEFT_CC", FILM[4:7, 2:4], MASK)
    files(root, "Calc-Training_P_00016_LEFT_CC", FILM[4:7, 2:4], MASK)
    train = MASS + row("P_00001", "MALIGNANT") + row("P_00004", "BENIGN_WITHOUT_CALLBACK")
    write(root / "mass_case_description_train_set.csv", train)
    write(root / "mass_case_description_test_set.csv", MASS + row("P_00016", "BENIGN", part="Test"))
    write(root / "calc_case_description_train_set.csv", CALC + row("P_00016", "MALIGNANT", "Calc"))
    write(root / "calc_case_description_test_set.csv", CALC)
    return root


def test_without_callback_is_benign_and_paths_end_with_line_breaks(root: Path) -> None:
    result = Result("cbis_ddsm", root, options={"finding": "mass"})
    assert {entry["patient"]: entry["label"] for entry in result.entries()} == {
        "P_00001": "malignant",
        "P_00004": "benign",
        "P_00016": "benign",
    }


def test_swapped_crop_and_mask_are_told_apart(root: Path) -> None:
    crops = Result("cbis_ddsm", root, task="finding", options={"finding": "mass"}).entries()
    assert [load(Path(root.parent / entry["image"])).array.shape[:2] for entry in crops] == [(2, 3)] * 3
    masks = Result("cbis_ddsm", root, task="findings", options={"finding": "mass"})
    for entry in masks.entries():
        image, mask = load(masks.file(entry["image"])), load(masks.file(entry["mask"]))
        require_same_grid(image, mask)
        assert np.array_equal(mask.array[..., 0].T, MASK // 255)


def test_a_mask_of_another_size_is_told_by_its_pixels(root: Path) -> None:
    other = np.pad(np.full((3, 2), 255, np.uint16), ((4, 5), (2, 4)))
    files(root, "Mass-Training_P_00001_LEFT_CC", other, FILM[4:7, 2:4])
    crops = Result("cbis_ddsm", root, task="finding", options={"finding": "mass"}).entries()
    assert load(Path(root.parent / crops[0]["image"])).array.shape[:2] == (2, 3)


def test_one_patient_in_both_tables_is_in_one_part(root: Path) -> None:
    result = Result("cbis_ddsm", root)
    assert [(entry["patient"], entry["label"]) for entry in result.entries("test")] == [("P_00016", "malignant")]
    crops = Result("cbis_ddsm", root, task="finding")
    sides = {entry["patient"] for entry in crops.entries("training")} & {e["patient"] for e in crops.entries("test")}
    assert sides == set()


def test_density_is_spelt_in_two_ways(root: Path) -> None:
    assert len(Result("cbis_ddsm", root, task="density", options={"finding": "calc"}).entries()) == 1
    assert len(Result("cbis_ddsm", root, task="density", options={"finding": "mass"}).entries()) == 3


def test_pictures_in_folders_of_series_do_as_well(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "kaggle"
    for name in ("mass_case_description_train_set", "mass_case_description_test_set"):
        write(other / "csv" / f"{name}.csv", MASS + (row("P_00001", "MALIGNANT") if "train" in name else ""))
    paint(other / "jpeg" / "1.3.6.2" / "1-249.jpg", FILM)
    paint(other / "jpeg" / "1.3.6.1.4.1.9590.2" / "1-016.jpg", FILM[4:7, 2:4])
    paint(other / "jpeg" / "1.3.6.1.4.1.9590.2" / "2-190.jpg", np.kron(MASK[:9], np.ones((1, 1))))
    (entry,) = Result("cbis_ddsm", other, options={"finding": "mass"}).entries()
    assert entry["image"].endswith("1-249.jpg") and entry["label"] == "malignant"


def test_a_lesion_has_the_box_of_its_mask_on_the_whole_film(root: Path) -> None:
    result = Result("cbis_ddsm", root, task="lesion", options={"finding": "mass"})
    assert [entry["roi"] for entry in result.entries()] == [[2, 4, 4, 7]] * 3
    assert all(load(result.file(entry["image"])).array.shape[:2] == (8, 10) for entry in result.entries())
    assert {entry["patient"]: entry["label"] for entry in result.entries()}["P_00004"] == "benign"


def test_a_lesion_whose_mask_has_another_size_has_no_box(root: Path) -> None:
    other = np.pad(np.full((3, 2), 255, np.uint16), ((4, 5), (2, 4)))
    files(root, "Mass-Training_P_00001_LEFT_CC", other, FILM[4:7, 2:4])
    result = Result("cbis_ddsm", root, task="lesion", options={"finding": "mass"})
    assert result.dropped == {"mask of another size than its mammogram": 1}
