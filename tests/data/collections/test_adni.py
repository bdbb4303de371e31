from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medresnet3d.data.phantoms.dicom import write_dicom_series
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.io import save_nifti
from tests.data.collections.trap import Result, write

VOXELS = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
CLINICAL = "RID,PTID,VISCODE,EXAMDATE,DX_bl,AGE,PTGENDER,PTEDUCAT,APOE4,MMSE,DX\n"
LISTED = "Image Data ID,Subject,Group,Sex,Age,Visit,Modality,Description,Type,Acq Date,Format,Downloaded\n"


def scan(root: Path, person: str, day: str, image: str, description: str = "MP-RAGE", suffix: str = ".nii") -> None:
    folder = root / "ADNI" / person / description / f"{day}_08_20_30.0" / image
    save_nifti(VOXELS, np.eye(4), folder / f"ADNI_{person}_MR_{description}_br_raw_2006_1_S13408_{image}{suffix}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "adni"
    scan(root, "002_S_0295", "2006-04-18", "I13722")
    scan(root, "002_S_0295", "2007-05-25", "I64551")
    scan(root, "003_S_0907", "2006-09-01", "I23000")
    scan(root, "005_S_0223", "2006-02-01", "I11000")
    rows = "295,002_S_0295,bl,2006-04-18,CN,84.8,Male,18,1,28,CN\n"
    rows += "295,002_S_0295,m12,2007-05-22,CN,84.8,Male,18,1,27,CN to MCI\n"
    rows += "907,003_S_0907,bl,2006-09-11,LMCI,88.6,Female,16,0,25,MCI\n"
    rows += "223,005_S_0223,bl,2006-02-03,SMC,78.2,Male,NA,NA,30,CN\n"
    write(root / "ADNIMERGE.csv", CLINICAL + rows)
    return root


def test_one_image_of_each_person_at_baseline(root: Path) -> None:
    result = Result("adni", root)
    assert {entry["patient"]: entry["label"] for entry in result.entries()} == {
        "002_S_0295": "CN",
        "003_S_0907": "MCI",
        "005_S_0223": "CN",
    }
    assert result.dropped == {"image of a later visit": 1}


def test_all_visits_of_a_person_have_one_patient_and_the_diagnosis_of_their_time(root: Path) -> None:
    result = Result("adni", root, options={"visits": "all"})
    person = [entry for entry in result.entries() if entry["patient"] == "002_S_0295"]
    assert [(entry["visit"], entry["label"]) for entry in person] == [("bl", "CN"), ("m12", "MCI")]
    assert [entry["age"] for entry in person] == [84.8, pytest.approx(85.9, abs=0.01)]


def test_a_memory_concern_is_healthy_or_dropped_and_mild_impairment_has_stages(root: Path) -> None:
    dropped = Result("adni", root, options={"smc": "drop"}).dropped
    assert dropped["label 'SMC' is no class of this task"] == 1
    mci = Result("adni", root, task="alzheimer")
    assert mci.dropped["label 'LMCI' is no class of this task"] == 1


def test_an_image_far_from_its_examination_has_no_diagnosis(root: Path) -> None:
    scan(root, "005_S_0999", "2010-01-01", "I99999")
    text = (root / "ADNIMERGE.csv").read_text()
    write(root / "ADNIMERGE.csv", text + "999,005_S_0999,bl,2006-01-01,AD,70,Male,1,1,20,Dementia\n")
    assert Result("adni", root).dropped["image further than 180 days from its examination"] == 1


def test_a_person_who_is_not_in_the_table_is_counted(root: Path) -> None:
    scan(root, "941_S_1195", "2007-01-01", "I55555")
    assert Result("adni", root).dropped["person who is not in ADNIMERGE"] == 1


def test_one_kind_of_preprocessing_by_description(root: Path) -> None:
    scan(root, "003_S_0907", "2006-09-01", "I23001", "MPR__GradWarp__B1_Correction__N3")
    result = Result("adni", root, options={"description": "GradWarp"})
    assert [entry["image_id"] for entry in result.entries()] == ["I23001"]
    assert result.dropped == {"image of another description": 4}
    both = Result("adni", root)
    assert both.dropped["further image of one day"] == 1


def test_dicom_series_are_folders(root: Path) -> None:
    folder = root / "ADNI" / "006_S_0001" / "MP-RAGE" / "2006-04-18_08_20_30.0" / "S13408"
    write_dicom_series(folder, VOXELS, np.eye(4), header={"Modality": "MR"})
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"ADNI_006_S_0001_MR_MP-RAGE__br_raw_20060418193713091_{number}_S13408_I13799.dcm")
    text = (root / "ADNIMERGE.csv").read_text()
    write(root / "ADNIMERGE.csv", text + "1,006_S_0001,bl,2006-04-20,AD,70,Male,1,1,20,Dementia\n")
    (entry,) = [entry for entry in Result("adni", root).entries() if entry["label"] == "AD"]
    assert entry["image"].endswith("/S13408") and entry["image_id"] == "I13799"


def test_the_table_of_the_collection_will_do(root: Path) -> None:
    (root / "ADNIMERGE.csv").unlink()
    with pytest.raises(DataError, match=r"neither ADNIMERGE\.csv nor the table of the image collection"):
        Result("adni", root)
    rows = "I13722,002_S_0295,CN,M,85,sc,MRI,MP-RAGE,Original,4/18/2006,NiFTI,10/20/2021\n"
    rows += "I23000,003_S_0907,MCI,F,89,sc,MRI,MP-RAGE,Original,9/01/2006,NiFTI,10/20/2021\n"
    write(root / "ADNI1_Complete_1Yr_1.5T_10_20_2021.csv", LISTED + rows)
    result = Result("adni", root)
    found = {entry["patient"]: (entry["label"], entry["age"], entry["sex"]) for entry in result.entries()}
    assert found == {"002_S_0295": ("CN", 85, "male"), "003_S_0907": ("MCI", 89, "female")}
    assert result.dropped["image without a row in the table of the collection"] == 1
    assert any("whatever the visit" in text for text in result.warnings)


def test_choices_are_checked(root: Path) -> None:
    with pytest.raises(ConfigError, match="choose baseline or all"):
        Result("adni", root, options={"visits": "first"})
