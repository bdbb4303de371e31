from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medresnet3d.data.phantoms.dicom import write_dicom_series
from medresnet3d.data.preparation.mimics import write_table
from medresnet3d.errors import DataError
from tests.data.collections.trap import Result

AFFINE = np.array([[-0.5, 0, 0, 10], [0, -0.5, 0, 12], [0, 0, 2.0, -30], [0, 0, 0, 1.0]])
VOXELS = np.random.default_rng(0).integers(-900, 300, (200, 210, 3)).astype(np.int16)
TRAINING = ["Scan Number", "Nodule Center x,y Position*", "Nodule Center Image", "Diagnosis"]
TEST = ["Scan Number", "Nodule Number", *TRAINING[1:3], "Final Diagnosis"]


def scan(root: Path, patient: str) -> None:
    folder = root / "SPIE-AAPM Lung CT Challenge" / patient / "05-22-2007-NA" / "4-CT"
    write_dicom_series(folder, VOXELS, AFFINE, patient_id=patient, file_names="shuffled")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "lungx"
    for patient in ("CT-Training-BE001", "CT-Training-LC001", "LUNGx-CT001"):
        scan(root, patient)
    rows = [["CT-Training-BE001", "120, 105", 2, "benign"], ["CT-Training-lc001", 120105, 3, "malignant"]]
    notes = [["", "", "", ""], ["*pixel positions count from the upper left", "", "", ""]]
    write_table(root / "CalibrationSet_NoduleData.xlsx", [TRAINING, *rows, *notes])
    rows = [
        ["LUNGx-CT001", 1, "7, 9", 1, "Benign nodule"],
        ["LUNGx-CT001", 2, "7, 9", 3, "Suspicious nodule"],
    ]
    write_table(root / "TestSet_NoduleData_PublicRelease_wTruth.xlsx", [TEST, *rows])
    return root


def test_joined_coordinates_and_instance_numbers_become_mm(root: Path) -> None:
    positions = {entry["patient"]: entry["position"] for entry in Result("lungx", root).entries("training")}
    np.testing.assert_allclose(positions["CT-Training-BE001"], (AFFINE @ [120, 105, 1, 1])[:3])
    np.testing.assert_allclose(positions["CT-Training-LC001"], (AFFINE @ [120, 105, 2, 1])[:3])


def test_an_instance_number_is_no_place_in_the_stack(root: Path) -> None:
    from pydicom import dcmread

    folder = next(root.rglob("CT-Training-BE001/*/*"))
    for path in folder.iterdir():
        dataset = dcmread(path)
        dataset.InstanceNumber = 4 - int(dataset.InstanceNumber)  # numbered from the head down
        dataset.save_as(path)
    write_table(root / "CalibrationSet_NoduleData.xlsx", [TRAINING, ["CT-Training-BE001", "120, 105", 3, "benign"]])
    (entry,) = Result("lungx", root).entries("training")
    np.testing.assert_allclose(entry["position"], (AFFINE @ [120, 105, 0, 1])[:3])


def test_names_differ_in_case_and_footnotes_are_no_nodules(root: Path) -> None:
    result = Result("lungx", root)
    assert {entry["patient"]: entry["label"] for entry in result.entries("training")} == {
        "CT-Training-BE001": "benign",
        "CT-Training-LC001": "malignant",
    }
    assert result.dropped == {"row that is no nodule": 1}


def test_a_second_series_of_one_person_is_counted(root: Path) -> None:
    folder = root / "SPIE-AAPM Lung CT Challenge" / "LUNGx-CT001" / "05-22-2007-NA" / "5-CT"
    write_dicom_series(folder, VOXELS, AFFINE, patient_id="LUNGx-CT001", series_number=5)
    assert Result("lungx", root).dropped["further series of one person"] == 1


def test_what_is_not_benign_is_malignant(root: Path) -> None:
    test = Result("lungx", root).entries("test")
    assert [(entry["label"], entry["nodule"], entry["patient"]) for entry in test] == [
        ("benign", "1", "LUNGx-CT001"),
        ("malignant", "2", "LUNGx-CT001"),
    ]


def test_missing_scans_and_images_are_counted(root: Path) -> None:
    rows = [["CT-Training-BE009", "1, 2", 3, "benign"], ["CT-Training-BE001", "1, 2", 99, "benign"]]
    rows += [["CT-Training-BE001", "somewhere", 1, "benign"]]
    write_table(root / "CalibrationSet_NoduleData.xlsx", [TRAINING, *rows])
    assert Result("lungx", root).dropped == {
        "image file missing": 1,
        "nodule in an image that is not there": 1,
        "nodule without a usable scan, place or diagnosis": 1,
    }


def test_one_of_the_tables_is_enough_but_none_is_not(root: Path) -> None:
    (root / "CalibrationSet_NoduleData.xlsx").unlink()
    assert len(Result("lungx", root).entries()) == 2
    (root / "TestSet_NoduleData_PublicRelease_wTruth.xlsx").unlink()
    with pytest.raises(DataError, match="are missing"):
        Result("lungx", root)
