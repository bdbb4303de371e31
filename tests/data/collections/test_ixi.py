from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medresnet3d.data.preparation.mimics import write_table
from medresnet3d.errors import ConfigError
from medresnet3d.io import save_nifti
from tests.data.collections.trap import Result

HEADER = ["IXI_ID", "SEX_ID (1=m, 2=f)", "HEIGHT", "WEIGHT", "ETHNIC_ID", "STUDY_DATE", "AGE"]


def scan(root: Path, name: str) -> None:
    save_nifti(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4), root / name)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "ixi"
    for name in ("IXI002-Guys-0828-T1", "IXI012-HH-1211-T1", "IXI013-HH-1212-T1", "IXI014-IOP-1-T1", "IXI015-HH-2-T1"):
        scan(root / "IXI-T1", f"{name}.nii.gz")
    scan(root / "IXI-T2", "IXI002-Guys-0828-T2.nii.gz")
    scan(root / "IXI-DTI", "IXI002-Guys-0828-DTI-00.nii.gz")
    rows = [[2, 2, 164, 58, 1, "", 35.8], [12, 1, 175, 70, 1, "", 38.78], [12, 1, 175, 70, 1, "", 38.9]]
    rows += [[13, 1, 182, 70, 1, "", ""], [13, 1, 182, 70, 1, "", 46.71], [14, 2, 0, 0, 1, "", 34.2]]
    rows += [[14, 2, 0, 0, 1, "", 54.2], [99, 1, 0, 0, 1, "", 60]]
    write_table(root / "IXI.xls", [HEADER, *rows])
    return root


def test_ids_are_numbers_and_repeated_rows_count_once(root: Path) -> None:
    result = Result("ixi", root)
    assert {entry["patient"]: entry["label"] for entry in result.entries()} == {
        "IXI002": 35.8,
        "IXI012": 38.78,
        "IXI013": 46.71,
    }
    assert result.dropped["repeated row"] == 2


def test_rows_that_contradict_leave_the_person_out(root: Path) -> None:
    result = Result("ixi", root)
    assert result.dropped["rows of one person that contradict each other"] == 2
    assert "IXI014" not in {entry["patient"] for entry in result.entries()}


def test_rows_without_image_and_images_without_row_are_counted(root: Path) -> None:
    dropped = Result("ixi", root).dropped
    assert dropped["image file missing"] == 1
    assert dropped["image without a row in the table"] == 2


def test_a_missing_age_is_counted_and_the_sex_is_still_known(root: Path) -> None:
    rows = [HEADER, [2, 2, 164, 58, 1, "", ""], [12, 1, 175, 0, 1, "", 38.78]]
    write_table(root / "IXI.xls", rows)
    assert Result("ixi", root).dropped["no age"] == 1
    sexes = {entry["patient"]: entry["label"] for entry in Result("ixi", root, task="sex").entries()}
    assert sexes == {"IXI002": "female", "IXI012": "male"}
    assert all("weight" not in entry for entry in Result("ixi", root).entries()), "0 kg is unknown"


def test_only_the_wanted_modality(root: Path) -> None:
    (entry,) = Result("ixi", root, options={"modality": "T2"}).entries()
    assert entry["image"].endswith("IXI002-Guys-0828-T2.nii.gz") and entry["site"] == "Guys"
    with pytest.raises(ConfigError, match="choose one of T1, T2, PD, MRA"):
        Result("ixi", root, options={"modality": "DTI"})
