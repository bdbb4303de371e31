from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from medresnet3d.bundle.load import load_state_dict
from medresnet3d.bundle.trust import require_trust
from medresnet3d.data import load_manifest
from medresnet3d.errors import DataError
from medresnet3d.workflows.ready_bundle import write_ready_bundle
from tests.workflows.toy_bundle import write_cubes, write_toy_bundle


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = write_toy_bundle(tmp_path / "toy")
    for old in ("models/model.pt", "runs/metrics.csv", "eval/answers.csv"):
        (folder / old).parent.mkdir(exist_ok=True)
        (folder / old).write_text("old")
    return folder


def write(source: Path, target: Path, **overrides: Any) -> Path:
    return write_ready_bundle(
        source,
        target,
        state_dict={"weight": torch.ones(2)},
        overrides=overrides,
        manifest=load_manifest(write_cubes(source.parent / "data", cases=8)),
        facts={"epochs": 3, "settings": "a|b"},
        metrics={"auc": 0.75},
    )


def test_it_has_the_configurations_and_only_the_new_weights(source: Path, tmp_path: Path) -> None:
    bundle = write(source, tmp_path / "run" / "bundle")
    files = {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()}
    configs = {f"configs/{name}.json" for name in ("inference", "metadata", "multi_gpu_train", "train")}
    assert files == configs | {"LICENSE", "docs/README.md", "models/model.pt"}
    assert torch.equal(load_state_dict(bundle)["weight"], torch.ones(2))
    require_trust(bundle)


def test_nested_overrides_become_values_and_other_files_stay_as_they_are(source: Path, tmp_path: Path) -> None:
    bundle = write(source, tmp_path / "bundle", **{"network_def::dropout_prob": 0.5, "optimizer#amsgrad": True})
    for name in ("train", "inference"):
        assert json.loads((bundle / "configs" / f"{name}.json").read_text())["network_def"]["dropout_prob"] == 0.5
    assert json.loads((bundle / "configs" / "train.json").read_text())["optimizer"]["amsgrad"] is True
    overlay = "configs/multi_gpu_train.json"
    assert (bundle / overlay).read_bytes() == (source / overlay).read_bytes()


def test_named_components_are_overridden_as_for_the_training(source: Path, tmp_path: Path) -> None:
    file = source / "configs" / "train.json"
    config = json.loads(file.read_text())
    config["loss"] = {"_target_": "medresnet3d.losses.build_loss", "name": "focal", "gamma": 3, "reduction": "@a"}
    file.write_text(json.dumps({**config, "a": "mean"}))
    bundle = write(source, tmp_path / "bundle", loss="hinge")
    loss = json.loads((bundle / "configs" / "train.json").read_text())["loss"]
    assert loss == {"_target_": "medresnet3d.losses.build_loss", "name": "hinge", "reduction": "@a"}


def test_the_card_has_a_table_of_facts(source: Path, tmp_path: Path) -> None:
    card = (write(source, tmp_path / "bundle") / "docs" / "README.md").read_text()
    assert "| epochs | 3 |" in card
    assert "| settings | a\\|b |" in card
    assert "| auc (validation) | 0.75 |" in card


def test_a_killed_attempt_and_an_older_bundle_are_replaced(source: Path, tmp_path: Path) -> None:
    (tmp_path / ".bundle.draft").mkdir()
    (tmp_path / ".bundle.draft" / "half.json").write_text("{")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "older.json").write_text("{}")
    bundle = write(source, tmp_path / "bundle")
    assert not (bundle / "older.json").exists() and not (bundle / "half.json").exists()
    assert not (tmp_path / ".bundle.draft").exists()


def test_a_full_disk_is_one_sentence(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(DataError, match="the disk is full"):
        write(source, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
