"""ISIC 2016 to 2019: what differs from year to year."""

from __future__ import annotations

from pathlib import Path

import pytest

from medresnet3d.errors import DataError
from tests.data.collections.trap import Result, paint, write


def test_2016_has_no_header_and_two_encodings(tmp_path: Path) -> None:
    root = tmp_path / "isic"
    for part, name in (("Training", "ISIC_0000000"), ("Training", "ISIC_0000001"), ("Test", "ISIC_0000003")):
        paint(root / f"ISBI2016_ISIC_Part3_{part}_Data" / f"{name}.jpg")
    write(root / "ISBI2016_ISIC_Part3_Training_GroundTruth.csv", "ISIC_0000000,benign\nISIC_0000001,malignant\n")
    write(root / "ISBI2016_ISIC_Part3_Test_GroundTruth.csv", "ISIC_0000003,1.0\n")
    result = Result("isic2016", root)
    assert [entry["label"] for entry in result.entries("training")] == ["benign", "malignant"]
    assert [entry["label"] for entry in result.entries("test")] == ["malignant"]


def test_2016_masks_of_part_3b_are_no_images(tmp_path: Path) -> None:
    root = tmp_path / "isic"
    for part, name, code in (("Training", "ISIC_0000000", "benign"), ("Test", "ISIC_0000003", "0.0")):
        paint(root / f"ISBI2016_ISIC_Part3B_{part}_Data" / f"{name}.jpg")
        paint(root / f"ISBI2016_ISIC_Part3B_{part}_Data" / f"{name}_Segmentation.png", [[0, 255]])
        write(root / f"ISBI2016_ISIC_Part3B_{part}_GroundTruth.csv", f"{name},{code}\n")
    assert len(Result("isic2016", root).entries()) == 2
    assert Result("isic2016", root, task="lesion").mask("ISIC_0000000.jpg").tolist() == [[0, 1]]


def test_2017_superpixels_are_no_images_and_neither_class_is_a_nevus(tmp_path: Path) -> None:
    root = tmp_path / "isic"
    data = root / "ISIC-2017_Training_Data"
    for index in range(4):
        paint(data / f"ISIC_000000{index}.jpg")
        paint(data / f"ISIC_000000{index}_superpixels.png")
    header = "image_id,melanoma,seborrheic_keratosis\n"
    rows = "ISIC_0000000,0.0,0.0\nISIC_0000001,1.0,0.0\nISIC_0000002,0.0,1.0\nISIC_0000003,1.0,1.0\n"
    write(root / "ISIC-2017_Training_Part3_GroundTruth.csv", header + rows)
    result = Result("isic2017", root)
    assert [entry["label"] for entry in result.entries()] == ["nevus", "melanoma", "seborrheic keratosis"]
    assert result.dropped == {"two diagnoses": 1}


def test_2017_test_part_is_the_second_version(tmp_path: Path) -> None:
    root = tmp_path / "isic"
    paint(root / "ISIC-2017_Training_Data" / "ISIC_0000000.jpg")
    paint(root / "ISIC-2017_Test_v2_Data" / "ISIC_0012086.jpg")
    header = "image_id,melanoma,seborrheic_keratosis\n"
    write(root / "ISIC-2017_Training_Part3_GroundTruth.csv", header + "ISIC_0000000,0.0,0.0\n")
    write(root / "ISIC-2017_Test_v2_Part3_GroundTruth.csv", header + "ISIC_0012086,1.0,0.0\n")
    write(root / "ISIC-2017_Test_v2_Data_metadata.csv", "image_id,age_approximate,sex\nISIC_0012086,unknown,male\n")
    (entry,) = Result("isic2017", root).entries("test")
    assert entry["label"] == "melanoma" and entry["sex"] == "male" and "age" not in entry


def test_2018_lesions_group_and_are_required(tmp_path: Path) -> None:
    root = tmp_path / "isic"
    for index in range(3):
        paint(root / "ISIC2018_Task3_Training_Input" / f"ISIC_002430{index}.jpg")
    header = "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\n"
    rows = "ISIC_0024300,0,1,0,0,0,0,0\nISIC_0024301,1.0,0,0,0,0,0,0\nISIC_0024302,0,0,0,0,0,0,0\n"
    write(root / "ISIC2018_Task3_Training_GroundTruth" / "ISIC2018_Task3_Training_GroundTruth.csv", header + rows)
    with pytest.raises(DataError, match="LesionGroupings"):
        Result("isic2018", root)
    groups = "image,lesion_id,diagnosis_confirm_type\nISIC_0024300,HAM_1,x\nISIC_0024301,HAM_1,x\n"
    write(root / "ISIC2018_Task3_Training_LesionGroupings.csv", groups)
    result = Result("isic2018", root)
    assert [(entry["label"], entry["patient"]) for entry in result.entries()] == [("NV", "HAM_1"), ("MEL", "HAM_1")]
    assert result.dropped == {"no diagnosis, or several": 1}


def test_2019_downsampled_names_lesions_and_the_unknown(tmp_path: Path) -> None:
    root = tmp_path / "isic"
    for name in ("ISIC_0000000", "ISIC_0000002_downsampled", "ISIC_0000003"):
        paint(root / "ISIC_2019_Training_Input" / f"{name}.jpg")
    header = "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK\n"
    rows = (
        "ISIC_0000000,0,1,0,0,0,0,0,0,0\nISIC_0000002_downsampled,0,0,0,0,0,0,0,1,0\nISIC_0000003,0,0,0,0,0,0,0,0,1\n"
    )
    write(root / "ISIC_2019_Training_GroundTruth.csv", header + rows)
    people = "ISIC_0000000,55.0,anterior torso,,female\nISIC_0000002_downsampled,30,,MSK4_0011169,\n"
    write(root / "ISIC_2019_Training_Metadata.csv", "image,age_approx,anatom_site_general,lesion_id,sex\n" + people)
    result = Result("isic2019", root)
    assert result.values("patient") == {
        "ISIC_0000000.jpg": "ISIC_0000000",
        "ISIC_0000002_downsampled.jpg": "MSK4_0011169",
    }
    assert result.values("label")["ISIC_0000002_downsampled.jpg"] == "SCC"
    assert result.dropped == {"unknown diagnosis": 1}
