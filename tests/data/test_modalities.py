from __future__ import annotations

from pathlib import Path

import pytest

from medresnet3d.data import inputs
from medresnet3d.data.sources import find_cases
from medresnet3d.errors import ConfigError, DataError

NAMES = ["T1", "T1_IR", "T2_FLAIR"]


def make(folder: Path, *names: str) -> None:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")


def test_a_folder_a_case_with_the_names_of_the_official_files(tmp_path: Path) -> None:
    make(tmp_path, *(f"TestData/{case}/{name}.nii" for case in (2, 10) for name in (*NAMES, "T1_1mm", "notes")))
    listed = inputs(tmp_path, modalities=NAMES)
    assert [item["case"] for item in listed] == ["2", "10"]
    assert [[Path(path).name for path in item["image"]] for item in listed] == [
        ["T1.nii", "T1_IR.nii", "T2_FLAIR.nii"]
    ] * 2
    assert all(item["path"] == item["image"] for item in listed)


def test_files_of_one_folder_that_begin_alike(tmp_path: Path) -> None:
    make(tmp_path, *(f"sub-{case}_{name}.nii.gz" for name in reversed(NAMES) for case in ("01", "02")))
    listed = inputs([*sorted(map(str, tmp_path.iterdir()))], modalities=[name.lower() for name in NAMES])
    assert [item["case"] for item in listed] == ["sub-01", "sub-02"]
    assert [Path(path).name for path in listed[1]["image"]] == [f"sub-02_{name}.nii.gz" for name in NAMES]


def test_an_incomplete_case_names_what_it_lacks_and_stops_no_other(tmp_path: Path) -> None:
    make(tmp_path, *(f"1/{name}.nii" for name in NAMES), "2/T1.nii", "2/T1_IR.nii")
    listed, incomplete = find_cases(tmp_path, modalities=NAMES)
    assert [item["case"] for item in listed] == ["1"]
    ((case, files, error),) = incomplete
    assert case == str(tmp_path / "2") and len(files) == 2
    assert "beside T1.nii, T1_IR.nii there is no T2_FLAIR" in str(error)
    with pytest.raises(DataError, match="there is no T2_FLAIR"):
        inputs(tmp_path, modalities=NAMES)


def test_one_modality_twice_is_an_error_of_its_case(tmp_path: Path) -> None:
    make(tmp_path, *(f"1/{name}.nii" for name in NAMES), "1/T1.nii.gz")
    assert "T1.nii and T1.nii.gz are both the T1" in str(find_cases(tmp_path, modalities=NAMES)[1][0][2])


def test_files_of_no_modality_and_names_given_twice(tmp_path: Path) -> None:
    make(tmp_path, "a.nii", "b.nii")
    with pytest.raises(DataError, match="ends with T1 or FLAIR"):
        inputs(tmp_path, modalities=["T1", "FLAIR"])
    with pytest.raises(ConfigError, match="each modality once"):
        inputs(tmp_path, modalities=["T1", "t1"])
