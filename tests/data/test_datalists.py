from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medresnet3d.data import items, load_manifest


def write(folder: Path, raw: dict[str, Any], name: str = "dataset.json") -> Path:
    file = folder / name
    file.write_text(json.dumps(raw))
    return file


def test_a_decathlon_dataset(tmp_path: Path) -> None:
    raw = {
        "name": "Hippocampus",
        "tensorImageSize": "3D",
        "licence": "CC-BY-SA 4.0",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "numTraining": 3,
        "training": [{"image": f"./imagesTr/h_{i}.nii.gz", "label": f"./labelsTr/h_{i}.nii.gz"} for i in range(3)],
        "test": ["./imagesTs/h_9.nii.gz"],
    }
    manifest = load_manifest(write(tmp_path, raw))
    assert (manifest.name, manifest.task, manifest.raw["modality"]) == ("Hippocampus", "segmentation", "MRI")
    assert manifest.labels == ("background", "Anterior", "Posterior")
    assert manifest.sections["training"][1]["mask"] == str(tmp_path / "labelsTr" / "h_1.nii.gz")
    assert [entry["patient"] for entry in manifest.sections["training"]] == ["h_0", "h_1", "h_2"]
    assert manifest.has_truth("training") and not manifest.has_truth("test")
    assert load_manifest(tmp_path) == manifest


def test_a_monai_datalist_with_folds(tmp_path: Path) -> None:
    raw = {"training": [{"image": f"i{i}.nii", "label": f"l{i}.nii", "fold": i % 2} for i in range(4)]}
    for i in range(4):
        (tmp_path / f"i{i}.nii").touch()
        (tmp_path / f"l{i}.nii").touch()
    file = write(tmp_path, raw, "list.json")
    assert load_manifest(file).task == "segmentation"
    assert [item["case"] for item in items(file, "validation")] == ["i0", "i2"]
    assert [item["case"] for item in items(file, "validation", fold=1)] == ["i1", "i3"]


@pytest.mark.parametrize(
    ("entry", "task"),
    [
        ({"label": 1}, "classification"),
        ({"label": 61.5}, "regression"),
        ({"label": "seg.nii.gz"}, "segmentation"),
        ({"label": [0], "box": [[0, 0, 0, 1, 1, 1]]}, "detection"),
        ({}, "conversion"),
    ],
)
def test_the_task_is_read_off_the_entries(tmp_path: Path, entry: dict[str, Any], task: str) -> None:
    manifest = load_manifest(write(tmp_path, {"training": [{"image": "a.nii", **entry}]}, "d.json"))
    assert manifest.task == task
    assert manifest.name == tmp_path.name
