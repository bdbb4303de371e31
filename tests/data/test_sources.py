from __future__ import annotations

import json
import os
from pathlib import Path
from pydoc import locate

import pytest

from medresnet3d.data import inputs
from medresnet3d.errors import DataError


def make(folder: Path, *names: str) -> None:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 10 if file.suffix in (".dcm", "") else b"x")


def cases(source: object) -> list[str]:
    return [item["case"] for item in inputs(source)]  # type: ignore[arg-type]


def test_a_folder_means_its_images_in_natural_order(tmp_path: Path) -> None:
    make(tmp_path, "scan10.nii.gz", "scan2.nii.gz", "scan1.mha", "notes.txt", ".hidden.nii", "sub/deep.nii")
    assert cases(tmp_path) == ["scan1", "scan2", "scan10"]


def test_pictures_beside_scans_are_no_cases(tmp_path: Path) -> None:
    make(tmp_path, "scan1.nii.gz", "scan1.png")
    assert [Path(item["image"]).name for item in inputs(tmp_path)] == ["scan1.nii.gz"]
    make(tmp_path / "photographs", "b.jpg", "a.png")
    assert cases(tmp_path / "photographs") == ["a", "b"]


def test_a_folder_without_images_means_everything_below(tmp_path: Path) -> None:
    make(tmp_path, "sub-2/anat/T1w.nii.gz", "sub-10/anat/T1w.nii.gz", "readme.md")
    listed = inputs(tmp_path)
    assert [Path(item["image"]).parts[-3] for item in listed] == ["sub-2", "sub-10"]
    assert [item["case"] for item in listed] == ["sub-2_anat_T1w", "sub-10_anat_T1w"]


def test_each_folder_of_dicom_files_is_one_case(tmp_path: Path) -> None:
    make(tmp_path, "a/1.dcm", "a/2.dcm", "b/IM0001", "b/IM0002", "b/DICOMDIR")
    listed = inputs(tmp_path)
    assert [item["image"] for item in listed] == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert cases(tmp_path / "a") == ["a"]


def test_slices_named_one_by_one_are_their_series(tmp_path: Path) -> None:
    make(tmp_path, "a/1.dcm", "a/2.dcm", "a/3.dcm")
    assert inputs(sorted((tmp_path / "a").glob("*.dcm")))[0]["image"] == str(tmp_path / "a")
    assert cases(str(tmp_path / "a" / "*.dcm")) == ["a"]
    with pytest.raises(DataError, match=r"2 of its 3 DICOM files are named; name the folder"):
        inputs([tmp_path / "a" / "1.dcm", tmp_path / "a" / "2.dcm"])
    assert cases(tmp_path / "a" / "1.dcm") == ["1"]


def test_a_pattern(tmp_path: Path) -> None:
    make(tmp_path, "a/x.nii", "b/x.nii", "b/x.txt")
    assert cases(str(tmp_path / "*" / "x.*")) == ["a_x", "b_x"]


def test_a_file_that_is_named_twice_is_one_case(tmp_path: Path) -> None:
    make(tmp_path, "x.nii")
    assert cases([tmp_path / "x.nii", tmp_path, tmp_path / "x.nii"]) == ["x"]


def test_a_manifest_keeps_its_keys_but_not_its_truth(tmp_path: Path) -> None:
    entry = {"image": "ct.nii", "label": "b", "patient": 7, "age": 60}
    manifest = {
        "name": "m",
        "task": "classification",
        "labels": ["a", "b"],
        "training": [{**entry, "position": [1, 2, 3]}, {**entry, "position": [4, 5, 6]}, {**entry, "patient": 8}],
    }
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps(manifest))
    listed = inputs(file, position=(0, 0, 9))
    assert [item["case"] for item in listed] == ["ct", "ct_2", "ct_3"]
    assert [item["position"] for item in listed] == [[1, 2, 3], [4, 5, 6], [0, 0, 9]]
    assert all("label" not in item and item["age"] == 60 and item["patient"] in ("7", "8") for item in listed)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.nii", "no such file or folder"),
        ("empty", r"no image is in this folder; known are \.nii"),
        ("*.png", r"this pattern matches no file; known are \.nii"),
        ("*.txt", r"this pattern matches no image; known are \.nii"),
        ("broken.json", "not valid JSON"),
    ],
)
def test_nothing_found(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(DataError, match=message):
        inputs(str(tmp_path / name))
    with pytest.raises(DataError, match="No input is given"):
        inputs([])


def test_names_are_safe_as_file_names(tmp_path: Path) -> None:
    make(tmp_path, "Müller, A (2).nii", "1.2.840.10008/1.dcm")
    assert cases([tmp_path / "Müller, A (2).nii", tmp_path / "1.2.840.10008"]) == ["Müller_A_2", "1.2.840.10008"]
    assert all(os.sep not in name for name in cases(tmp_path))


def test_a_configuration_can_name_the_function() -> None:
    assert locate("medresnet3d.data.inputs") is inputs


def test_a_table_is_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,label,patient,age\na.nii,no,p1,50\nb.nii,yes,p2,60\n")
    assert inputs(tmp_path / "t.csv") == [
        {"image": str(tmp_path / f"{case}.nii"), "path": str(tmp_path / f"{case}.nii"), "case": case, **known}
        for case, known in (("a", {"patient": "p1", "age": "50"}), ("b", {"patient": "p2", "age": "60"}))
    ]
