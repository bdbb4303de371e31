"""What is special about this bundle: an SVM says from which layer on the network is trained."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from medresnet3d.bundle.load import load_network
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data.phantoms.breast_mri import write_breast_mri
from medresnet3d.engines import layer_probing, load_checkpoint
from medresnet3d.workflows.train import train
from tests.bundles.as_configured import assert_resuming_changes_nothing, network_of, parameter_count

BUNDLE = find_bundle("breast_mri_layer_svm")
TINY = {"arch": "resnet10", "image_size": 32, "max_epochs": 1, "batch_size": 8, "svm_folds": 3}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_breast_mri(tmp_path_factory.mktemp("slices"), 24, 8, size=(32, 32), difficulty=0.2)


@pytest.fixture(scope="module")
def run(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    return train(BUNDLE, manifest, folder, set={**TINY, "layers": ["layer1.0", "layer2.0", "layer3.0"]}, device="cpu")


@pytest.mark.parametrize(
    ("overrides", "parameters"),
    [
        ({}, 735_634),
        ({"size": "paper", "arch": "vgg16"}, 135_309_890),
        ({"size": "paper", "arch": "inception_v3"}, 22_310_626),
        ({"size": "paper", "arch": "resnet50"}, 24_033_090),
    ],
)
def test_the_published_size_is_one_id_away(overrides: dict[str, Any], parameters: int) -> None:
    network = network_of(BUNDLE, **overrides)
    assert parameter_count(network) == parameters


def digest(state: dict[str, Tensor], names: list[str]) -> str:
    content = hashlib.sha256()
    for name in names:
        content.update(state[name].numpy().tobytes())
    return content.hexdigest()


def test_up_to_the_node_not_a_bit_has_changed(run: Path) -> None:
    """Parameters and statistics, compared with what the stage of the node left, which trains nothing."""
    network = load_network(run)
    node = network.layers[int(network.node)]
    start, end = (load_checkpoint(run / path)["network"] for path in ("stages/node.pt", "checkpoints/best.pt"))
    depth = ["layer1", "layer2", "layer3", "layer4"]
    last = depth.index(node.split(".")[0])
    frozen = ["network.conv1", "network.bn1", *(f"network.{name}" for name in depth[: last + 1])]
    before = [name for name in end if name.startswith(tuple(f"{each}." for each in frozen))]
    after = [name for name in end if name not in before and end[name].is_floating_point()]
    assert len(before) > 5 and len(after) > 5
    assert digest(start, before) == digest(end, before)
    assert {name for name in after if torch.equal(start[name], end[name])} == set()
    rows = list(csv.DictReader((run / "stages" / "node" / "layers.csv").open()))
    assert node == max(rows, key=lambda row: float(row["f1"]))["layer"]


def test_a_resumed_run_probes_nothing_again(run: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_probing, "_predict", lambda *arguments: pytest.fail("probed again"))
    assert_resuming_changes_nothing(BUNDLE, manifest, run)


@pytest.mark.slow
def test_learns_tumours_from_phantoms(tmp_path: Path) -> None:
    path = write_breast_mri(tmp_path / "slices", 240, 120, seed=3, size=(96, 96), difficulty=0.4)
    run = train(BUNDLE, path, tmp_path / "run", set={"image_size": 64, "max_epochs": 20}, device="cpu")
    metadata = json.loads((run / "bundle" / "configs" / "metadata.json").read_text())
    print((run / "stages" / "node" / "layers.csv").read_text(), metadata["eval_metrics"])
    assert metadata["eval_metrics"]["auc"] > 0.8
