from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medresnet3d.data import items, load_manifest
from medresnet3d.errors import DataError


def write(folder: Path, **changes: Any) -> Path:
    raw: dict[str, Any] = {"name": "toy", "task": "classification", "labels": ["benign", "malignant"], **changes}
    file = folder / "manifest.json"
    file.write_text(json.dumps({key: value for key, value in raw.items() if value is not None}))
    return file


def entries(folder: Path, count: int = 20, **more: Any) -> list[dict[str, Any]]:
    for index in range(count):
        (folder / f"i{index}.nii").touch()
    return [{"image": f"i{i}.nii", "label": i // 2 % 2, "patient": f"p{i // 2}", **more} for i in range(count)]


def test_what_a_manifest_holds(tmp_path: Path) -> None:
    listed: list[dict[str, Any]] = [
        {"image": ["t1.nii", "sub/t2.nii"], "label": "malignant", "patient": 7, "age": 61},
        {"image": "/abs/x.nii", "label": 0, "patient": "8", "mask": "m.nii"},
    ]
    manifest = load_manifest(write(tmp_path, training=listed, root="data", labels={"1": "malignant", "0": "benign"}))
    first, second = manifest.sections["training"]
    assert manifest.labels == ("benign", "malignant")
    assert first["image"] == [str(tmp_path / "data" / "t1.nii"), str(tmp_path / "data" / "sub" / "t2.nii")]
    assert (first["label"], first["patient"], first["age"]) == (1, "7", 61)
    assert (second["image"], second["mask"]) == ("/abs/x.nii", str(tmp_path / "data" / "m.nii"))
    assert load_manifest(manifest) is manifest


def test_class_names_come_from_the_entries_where_none_are_listed(tmp_path: Path) -> None:
    listed = [{"image": "a.nii", "label": label} for label in ("grade 10", "grade 2", "grade 2")]
    assert load_manifest(write(tmp_path, labels=None, training=listed)).labels == ("grade 2", "grade 10")
    numbered = [{"image": "a.nii", "label": label} for label in (4, 0, 1)]
    assert load_manifest(write(tmp_path, labels=None, training=numbered)).labels == ("0", "1", "2", "3", "4")


def test_regression_labels_are_numbers(tmp_path: Path) -> None:
    file = write(tmp_path, task="regression", labels=None, training=[{"image": "a.nii", "label": 61}])
    assert load_manifest(file).sections["training"][0]["label"] == 61.0


def test_the_hash_is_of_the_content(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
    first, second, third = (
        load_manifest(write(tmp_path / name, training=[{"image": "x.nii", "label": label}]))
        for name, label in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first.content_hash() == second.content_hash() != third.content_hash()


def test_items_of_a_segmentation_have_the_mask_as_label(tmp_path: Path) -> None:
    for name in ("i.nii", "m.nii"):
        (tmp_path / name).touch()
    entry = {"image": "i.nii", "mask": "m.nii", "patient": 1, "site": "A"}
    file = write(tmp_path, task="segmentation", labels=["back", "organ"], training=[entry])
    (item,) = items(file, "all")
    image, mask = str(tmp_path / "i.nii"), str(tmp_path / "m.nii")
    assert item == {
        "image": image,
        "path": image,
        "mask": mask,
        "label": mask,
        "patient": "1",
        "case": "i",
        "site": "A",
    }


def test_the_manifest_s_own_validation_list_is_used(tmp_path: Path) -> None:
    listed = entries(tmp_path)
    file = write(tmp_path, training=listed[:12], validation=listed[12:16], test=listed[16:])
    assert [len(items(file, name)) for name in ("training", "validation", "test", "all")] == [12, 4, 4, 20]  # type: ignore[arg-type]
    assert {item["patient"] for item in items(file, "training", fold=0)} <= {f"p{i}" for i in range(6)}


def test_folds_partition_the_training_list(tmp_path: Path) -> None:
    file = write(tmp_path, training=entries(tmp_path))
    seen: list[str] = []
    for fold in range(5):
        validation, training = items(file, "validation", fold=fold), items(file, "training", fold=fold)
        assert len(validation) + len(training) == 20
        assert not {item["patient"] for item in validation} & {item["patient"] for item in training}
        assert sorted({item["label"] for item in validation}) == [0, 1]
        seen += [item["case"] for item in validation]
    assert sorted(seen) == sorted(f"i{i}" for i in range(20))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shuffler=st.randoms(use_true_random=False),
    fold=st.sampled_from([None, 0, 3]),
    task=st.sampled_from(["classification", "segmentation"]),
)
def test_shuffling_the_entries_does_not_change_the_split(
    tmp_path: Path, shuffler: random.Random, fold: int | None, task: str
) -> None:
    listed = entries(tmp_path)
    if task == "segmentation":
        listed = [{"image": entry["image"], "mask": entry["image"], "patient": entry["patient"]} for entry in listed]

    def held_out(order: list[dict[str, Any]]) -> set[str]:
        file = write(tmp_path, training=order, task=task)
        return {item["case"] for item in items(file, "validation", fold=fold, seed=3)}

    expected = held_out(listed)
    again = list(listed)
    shuffler.shuffle(again)
    assert held_out(again) == expected
    assert 0 < len(expected) < len(listed)


def test_an_entry_s_own_fold_wins(tmp_path: Path) -> None:
    listed = [{**entry, "fold": int(entry["patient"][1:]) % 3} for entry in entries(tmp_path)]
    file = write(tmp_path, training=listed)
    assert {item["patient"] for item in items(file, "validation", fold=2)} == {"p2", "p5", "p8"}
    assert {item["patient"] for item in items(file, "validation")} == {"p0", "p3", "p6", "p9"}
    with pytest.raises(DataError, match=r"no entry has fold 4; the manifest's folds are \[0, 1, 2\]"):
        items(file, "validation", fold=4)


def test_a_share_of_the_training_patients_leaves_the_validation_alone(tmp_path: Path) -> None:
    manifest = write(tmp_path, training=entries(tmp_path, 40))
    whole = items(manifest, "training")
    held_out = {item["patient"] for item in items(manifest, "validation")}
    shares = [items(manifest, "training", fraction=fraction) for fraction in (0.25, 0.5, 1.0)]
    patients = [{item["patient"] for item in share} for share in shares]
    assert [len(each) for each in patients] == [4, 8, 16]
    assert patients[0] < patients[1] < patients[2]
    assert shares[-1] == whole
    assert not held_out & patients[2]
    assert shares[1] == [item for item in whole if item["patient"] in patients[1]], "whole patients, in their order"
    assert {item["label"] for item in shares[0]} == {0, 1}


def test_a_share_needs_patients(tmp_path: Path) -> None:
    listed = [{key: value for key, value in entry.items() if key != "patient"} for entry in entries(tmp_path)]
    manifest = write(tmp_path, training=listed)
    assert len(items(manifest, "training", validation_fraction=0)) == 20
    with pytest.raises(DataError, match="entry 1 of `training` has no `patient`"):
        items(manifest, "training", validation_fraction=0, fraction=0.5)
    with pytest.raises(DataError, match="training fraction is 0"):
        items(write(tmp_path, training=entries(tmp_path)), "training", fraction=0)


def test_no_validation_is_wanted(tmp_path: Path) -> None:
    file = write(tmp_path, training=[{k: v for k, v in e.items() if k != "patient"} for e in entries(tmp_path)])
    assert len(items(file, "training", validation_fraction=0)) == 20
    assert items(file, "validation", validation_fraction=0) == []


def test_an_unknown_patient_is_left_out_of_a_split(tmp_path: Path) -> None:
    listed = entries(tmp_path)
    listed[4]["patient"] = ""
    file = write(tmp_path, training=listed)
    with pytest.warns(UserWarning, match="1 of 20 training entries have an empty `patient`"):
        both = items(file, "training") + items(file, "validation")
    assert sorted(item["case"] for item in both) == sorted(f"i{i}" for i in range(20) if i != 4)


def test_items_that_cannot_be_given(tmp_path: Path) -> None:
    file = write(tmp_path, training=entries(tmp_path))
    with pytest.raises(DataError, match="nothing is listed under `test`"):
        items(file, "test")
    with pytest.raises(DataError, match="There is no section 'valid'"):
        items(file, "valid")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="Fold 5 does not exist; with 5 folds the numbers are 0 to 4"):
        items(file, "training", fold=5)
    file = write(tmp_path, training=[{"image": "gone.nii", "label": 0}])
    with pytest.raises(DataError, match=r"entry 1 of `training`: the image .*gone\.nii does not exist"):
        items(file, "all")
    file = write(tmp_path, training=[{"image": "i0.nii"}])
    with pytest.raises(DataError, match="entry 1 of `training` has no `label`, which classification needs"):
        items(file, "all")
    file = write(tmp_path, training=[{"image": "i0.nii", "label": 0}, {"image": "i1.nii", "label": 0}])
    with pytest.raises(DataError, match="entry 1 of `training` has no `patient`, and splitting is done by patient"):
        items(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such manifest"),
        ('{"name": "x",\n "task" "y"}', "not valid JSON at line 2, column 9"),
        ("[1]", "holds a JSON list, but a manifest is an object"),
        (b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_a_file_that_is_no_manifest(tmp_path: Path, content: str | bytes | None, message: str) -> None:
    file = tmp_path / "m.json"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        load_manifest(file)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"the folder holds no manifest\.json"):
        load_manifest(tmp_path / "empty")


@pytest.mark.realdata
def test_real_manifests_are_accepted(realdata: Path) -> None:
    files = sorted(realdata.glob("*/manifest.json"))
    assert files
    for file in files:
        manifest = load_manifest(file)
        assert sum(map(len, manifest.sections.values())) >= 1
