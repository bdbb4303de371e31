from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medresnet3d.errors import ConfigError
from medresnet3d.io import load, require_same_grid, save_nifti
from tests.data.collections.trap import Result

SPACING = np.diag([0.958, 0.958, 3.0, 1.0])
SCAN = np.arange(3 * 3 * 2, dtype=np.int16).reshape(3, 3, 2)
STRUCTURES = (SCAN % 9).astype(np.uint8)
MOVED = np.array([[0.958, 0, 0, 50], [0, 0.958, 0, 0], [0, 0, 3.0, 0], [0, 0, 0, 1.0]])


@pytest.fixture
def thirteen(tmp_path: Path) -> Path:
    root = tmp_path / "MRBrainS13"
    for case in (root / "TrainingData" / "1", root / "TrainingData" / "2", root / "TestData" / "1"):
        for name in ("T1", "T1_IR", "T2_FLAIR"):
            save_nifti(SCAN, SPACING, case / f"{name}.nii")
        save_nifti(np.zeros((3, 3, 6), np.int16) + 5, np.eye(4), case / "T1_1mm.nii")
    for case in (1, 2):
        save_nifti(STRUCTURES, SPACING, root / "TrainingData" / str(case) / "LabelsForTraining.nii")
    save_nifti(np.full_like(STRUCTURES, 3), SPACING, root / "TrainingData" / "1" / "LabelsForTesting.nii")
    return root


def test_people_of_both_parts_have_the_same_numbers_but_are_others(thirteen: Path) -> None:
    result = Result("mrbrains13", thirteen)
    assert [entry["patient"] for entry in result.entries("training")] == ["training_1", "training_2"]
    assert [(entry["patient"], "mask" in entry) for entry in result.entries("test")] == [("test_1", False)]
    assert result.dropped == {}


def test_sequences_are_channels_without_the_one_of_another_grid(thirteen: Path) -> None:
    for entry in Result("mrbrains13", thirteen).entries():
        assert [Path(image).name for image in entry["image"]] == ["T1.nii", "T1_IR.nii", "T2_FLAIR.nii"]
    (first, *_) = Result("mrbrains13", thirteen, options={"images": "T2_FLAIR"}).entries()
    assert first["image"][0].endswith("T2_FLAIR.nii")
    with pytest.raises(ConfigError, match="choose from T1, T1_IR, T2_FLAIR"):
        Result("mrbrains13", thirteen, options={"images": "T1_1mm"})


def test_tissues_are_the_official_ones_or_merged_as_the_challenge_does(thirteen: Path) -> None:
    result = Result("mrbrains13", thirteen)
    official, merged = (load(result.file(entry["mask"]), constant_ok=True) for entry in result.entries("training"))
    assert np.unique(official.array) == [3]
    assert np.array_equal(merged.array, np.array([0, 2, 2, 3, 3, 1, 1, 0, 0])[STRUCTURES])
    drawn = Result("mrbrains13", thirteen, task="structures")
    assert np.array_equal(load(drawn.file(drawn.entries()[1]["mask"])).array, STRUCTURES)


def test_a_label_map_that_its_header_misplaces_is_copied_onto_the_image(thirteen: Path) -> None:
    save_nifti(STRUCTURES, MOVED, thirteen / "TrainingData" / "2" / "LabelsForTraining.nii")
    for task in ("structures", "tissue"):
        result = Result("mrbrains13", thirteen, task=task)
        entry = result.entries("training")[1]
        require_same_grid(load(result.file(entry["image"][0])), load(result.file(entry["mask"])))
    assert any(
        "were corrected in copies" in text for text in Result("mrbrains13", thirteen, task="structures").warnings
    )


def test_a_label_map_of_another_shape_and_a_missing_sequence_are_counted(thirteen: Path) -> None:
    save_nifti(STRUCTURES[:2], SPACING, thirteen / "TrainingData" / "1" / "LabelsForTraining.nii")
    (thirteen / "TrainingData" / "2" / "T1_IR.nii").unlink()
    result = Result("mrbrains13", thirteen, task="structures")
    assert result.dropped == {"file of another shape than its image": 1, "image file missing": 1}


@pytest.fixture
def eighteen(tmp_path: Path) -> Path:
    root = tmp_path / "MRBrainS18"
    for case in ("1", "070"):
        base = root / "training" / case
        for name in ("reg_T1", "reg_IR", "FLAIR"):
            save_nifti(SCAN, SPACING, base / "pre" / f"{name}.nii.gz")
            save_nifti(SCAN + 1, SPACING, base / "orig" / f"{name}.nii.gz")
        save_nifti(np.arange(8, dtype=np.int16).reshape(2, 2, 2), np.eye(4), base / "pre" / "T1.nii.gz")
        save_nifti((SCAN % 11).astype(np.uint8), SPACING, base / "segm.nii.gz")
    return root


def test_registered_sequences_of_the_corrected_images(eighteen: Path) -> None:
    result = Result("mrbrains18", eighteen)
    assert [entry["patient"] for entry in result.entries()] == ["training_1", "training_070"]
    for entry in result.entries():
        assert [image[-18:] for image in entry["image"]] == [
            "/pre/reg_T1.nii.gz",
            "/pre/reg_IR.nii.gz",
            "0/pre/FLAIR.nii.gz" if "070" in entry["patient"] else "1/pre/FLAIR.nii.gz",
        ]


def test_lesions_are_structures_but_no_tissue(eighteen: Path) -> None:
    structures = Result("mrbrains18", eighteen)
    assert load(structures.file(structures.entries()[0]["mask"])).array.max() == 10
    tissue = Result("mrbrains18", eighteen, task="tissue")
    mask = load(tissue.file(tissue.entries()[0]["mask"]))
    assert np.array_equal(mask.array, np.array([0, 2, 2, 3, 3, 1, 1, 0, 0, 0, 0])[SCAN % 11])


def test_a_case_without_label_map_is_counted(eighteen: Path) -> None:
    (eighteen / "training" / "1" / "segm.nii.gz").unlink()
    assert Result("mrbrains18", eighteen).dropped == {"mask file missing": 1}
