from __future__ import annotations

import json
from pathlib import Path

import pytest

from medresnet3d.bundle.registry import find_bundle, read_metadata
from medresnet3d.bundle.uses import metadata_of_use, task_of
from medresnet3d.data.manifest import load_manifest
from medresnet3d.errors import DataError
from medresnet3d.workflows.train import check_task

METADATA = {
    "task": "segmentation",
    "labels": {"0": "b"},
    "uses": {"classification": {"labels": {"0": "CN", "1": "AD"}}},
}


def test_the_task_is_the_default_one_unless_another_use_is_named() -> None:
    assert task_of(METADATA, {}) == task_of(METADATA, {"task": "segmentation"}) == "segmentation"
    assert task_of(METADATA, {"task": "classification"}) == "classification"
    assert task_of({"task": "regression"}, {"task": "classification"}) == "regression"


def test_the_metadata_of_another_use_have_only_that_one_left() -> None:
    assert metadata_of_use(METADATA, "segmentation") == METADATA
    other = metadata_of_use(METADATA, "classification")
    assert other == {"task": "classification", "labels": {"0": "CN", "1": "AD"}}
    assert "uses" in METADATA


def test_data_for_another_use_are_refused_with_the_way_to_it(tmp_path: Path) -> None:
    bundle = find_bundle("alzheimer_hippocampus_multitask")
    entry = {"image": "a.nii.gz", "label": "AD", "patient": "p"}
    content = {"name": "n", "task": "classification", "labels": ["CN", "AD"], "training": [entry]}
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    manifest = load_manifest(tmp_path / "manifest.json")
    with pytest.raises(DataError, match="--set task=classification"):
        check_task(bundle, manifest, {})
    check_task(bundle, manifest, {"task": "classification"})
    with pytest.raises(DataError, match="bundle list"):
        check_task(find_bundle("brain_tissue_voxresnet"), manifest, {"task": "classification"})
    assert read_metadata(bundle)["task"] == "segmentation"
