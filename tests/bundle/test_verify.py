from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from medresnet3d.bundle.load import load_network
from medresnet3d.bundle.registry import list_bundles, read_metadata
from medresnet3d.bundle.verify import Check, metadata_problems, verify_bundle
from tests.bundle.small_bundle import METADATA, write_bundle, write_json
from tests.workflows.detection_bundle import detection_bundle


def _checks(folder: Path) -> dict[str, Check]:
    return {check.check: check for check in verify_bundle(folder)}


def test_complete_bundle_passes(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    (folder / "models").mkdir()
    torch.save(load_network(folder, weights=False).state_dict(), folder / "models/model.pt")
    checks = _checks(folder)
    assert all(check.ok for check in checks.values()), checks
    assert "sha256" in checks["weights"].detail


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    metadata = copy.deepcopy(METADATA)
    metadata["network_data_format"]["outputs"]["pred"]["num_channels"] = 7
    del metadata["version"]
    folder = write_bundle(tmp_path / "bundle", {"inferer": None})
    config = json.loads((folder / "configs/inference.json").read_text())
    write_json(folder / "configs/metadata.json", metadata)
    write_json(folder / "configs/inference.json", {k: v for k, v in config.items() if k != "dataset"})
    (folder / "models").mkdir()
    torch.save({"a": torch.zeros(1)}, folder / "models/model.pt")
    checks = _checks(folder)
    assert "version" in checks["metadata"].detail
    assert "dataset is missing" in checks["inference ids"].detail
    assert "7" in checks["network input and output"].detail
    assert "do not fit" in checks["weights"].detail
    assert not any(check.ok for check in checks.values())


def test_wrong_reference_is_named(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    config = json.loads((folder / "configs/inference.json").read_text())
    config["evaluator"]["postprocessing"] = "@preprocessing"
    write_json(folder / "configs/inference.json", config)
    assert (
        "evaluator::postprocessing must be @postprocessing, not @preprocessing"
        in _checks(folder)["inference ids"].detail
    )


def test_component_that_cannot_be_built_is_one_sentence(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle", {"network_def": {"_target_": "UNet", "nonsense": 1}})
    check = _checks(folder)["network input and output"]
    assert not check.ok
    assert "\n" not in check.detail


@pytest.mark.parametrize("name", [bundle.name for bundle in list_bundles()])
def test_metadata_of_shipped_bundles_keeps_the_rules(name: str) -> None:
    folder = next(bundle.path for bundle in list_bundles() if bundle.name == name)
    assert metadata_problems(read_metadata(folder)) == []


def _without(*path: str) -> dict[str, Any]:
    metadata = copy.deepcopy(METADATA)
    parent: Any = metadata
    for key in path[:-1]:
        parent = parent[key]
    del parent[path[-1]]
    return metadata


@pytest.mark.parametrize(
    "metadata",
    [
        _without("task"),
        _without("network_data_format"),
        _without("network_data_format", "inputs"),
        _without("network_data_format", "inputs", "image", "dtype"),
        {**METADATA, "references": "one"},
        {**METADATA, "changelog": []},
        {**METADATA, "inferred": {"lr": 1}},
    ],
)
def test_metadata_that_breaks_the_rules_is_named(metadata: dict[str, Any]) -> None:
    assert metadata_problems(METADATA) == []
    assert metadata_problems(metadata)


def test_the_answer_of_a_detection_is_a_table(tmp_path: Path) -> None:
    folder = detection_bundle(tmp_path / "detector")
    assert _checks(folder)["answer"] == Check("answer", True, "a table of detections")
    config = json.loads((folder / "configs/inference.json").read_text())
    config["answer"]["transforms"].pop()
    write_json(folder / "configs/inference.json", config)
    assert "makes (1, 16, 16, 16) of a map without a finding" in _checks(folder)["answer"].detail
    metadata = read_metadata(folder)
    metadata["network_data_format"]["outputs"]["pred"]["num_channels"] = 2
    write_json(folder / "configs/metadata.json", metadata)
    assert "one map of logits, not 2 channels" in _checks(folder)["answer"].detail
