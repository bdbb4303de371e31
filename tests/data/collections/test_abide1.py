from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medresnet3d.io import save_nifti
from tests.data.collections.trap import Result, write

HEADER = ",SUB_ID,X,subject,SITE_ID,FILE_ID,DX_GROUP,DSM_IV_TR,AGE_AT_SCAN,SEX,HANDEDNESS_CATEGORY,FIQ\n"


def scan(path: Path) -> None:
    save_nifti(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4), path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "abide"
    for site, person in (("PITT", "0050002"), ("PITT", "0050003"), ("NYU", "0050952"), ("NYU", "0050953")):
        scan(root / site / person / "session_1" / "anat_1" / "mprage.nii.gz")
    rows = "1,50002,1,50002,PITT,no_filename,1,1,16.77,1,L,103\n2,50003,2,50003,PITT,Pitt_0050003,2,0,24.45,2,R,-9999\n"
    rows += "3,50952,3,50952,NYU,NYU_0050952,2,0,-9999,1,-9999,98\n4,50953,4,50953,NYU,NYU_0050953,2,0,11.2,1,R,101\n"
    write(root / "Phenotypic_V1_0b_preprocessed1.csv", HEADER + rows)
    return root


def test_numbers_without_leading_zeros_and_without_preprocessed_file(root: Path) -> None:
    result = Result("abide1", root)
    assert {entry["patient"]: entry["label"] for entry in result.entries()} == {
        "0050002": "autism",
        "0050003": "control",
        "0050952": "control",
        "0050953": "control",
    }
    assert result.dropped == {}


def test_9999_is_unknown(root: Path) -> None:
    entries = {entry["patient"]: entry for entry in Result("abide1", root).entries()}
    assert "age" not in entries["0050952"] and "hand" not in entries["0050952"] and "fiq" not in entries["0050003"]
    assert Result("abide1", root, task="age").dropped == {"not a control": 1, "no age": 1}


def test_age_is_of_controls_unless_all_are_wanted(root: Path) -> None:
    ages = [entry["label"] for entry in Result("abide1", root, task="age").entries()]
    assert ages == [24.45, 11.2]
    everyone = Result("abide1", root, task="age", options={"controls": "false"}).entries()
    assert [entry["label"] for entry in everyone] == [16.77, 24.45, 11.2]


def test_each_site_can_be_a_fold(root: Path) -> None:
    entries = Result("abide1", root, folds=2, options={"leave_site_out": "true"}).entries()
    assert {(entry["site"], entry["fold"]) for entry in entries} == {("NYU", 0), ("PITT", 1)}


def test_the_bids_layout_does_as_well(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "bids"
    scan(other / "NYU" / "sub-0050952" / "anat" / "sub-0050952_T1w.nii.gz")
    write(other / "Phenotypic_V1_0b.csv", (root / "Phenotypic_V1_0b_preprocessed1.csv").read_text())
    result = Result("abide1", other, task="sex")
    assert [(entry["patient"], entry["label"]) for entry in result.entries()] == [("0050952", "male")]
    assert result.dropped == {"image file missing": 3}
