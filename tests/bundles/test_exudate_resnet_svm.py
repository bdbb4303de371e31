"""What is special about this bundle: an SVM on patches, grouped by photograph, slid over the whole photograph."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from medresnet3d.bundle.load import load_config, load_network
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data import items
from medresnet3d.data.phantoms.fundus_lesions import write_eophtha
from medresnet3d.io import load
from medresnet3d.networks.svm_heat_map import SVMHeatMap
from medresnet3d.workflows.infer import infer
from medresnet3d.workflows.train import train
from tests.bundles.as_configured import network_of

BUNDLE = find_bundle("exudate_resnet_svm")
TINY = {
    **{"arch": "resnet10", "image_size": 64, "patch_size": 12, "input_size": 24, "stride": 4, "window_size": [48, 48]},
    **{"patches_per_photograph": 8, "max_epochs": 2, "batch_size": 16, "svm_folds": 3, "capacity": 64},
}
TRAINED = {key: value for key, value in TINY.items() if key != "window_size"}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_eophtha(tmp_path_factory.mktemp("eyes"), 10, 5, size=(48, 64))


@pytest.fixture(scope="module")
def run(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(BUNDLE, manifest, tmp_path_factory.mktemp("run") / "run", set=TRAINED, device="cpu")


def test_the_published_size_is_one_id_away() -> None:
    overrides = {"size": "paper", "arch": "resnet50"}
    network = network_of(BUNDLE, **overrides)
    assert network.svm.mean.shape == (2048,) and network.svm.kernel == "rbf"


def test_patches_of_a_photograph_are_on_one_side_of_every_split(manifest: Path) -> None:
    overrides = {**TRAINED, "data": str(manifest), "device": "cpu"}
    parser = load_config(BUNDLE, ("train.json",), overrides)
    sides = [parser.get_parsed_content(f"{part}#dataset").data for part in ("train", "validate")]
    patients = [{patch["patient"] for patch in side} for side in sides]
    assert not patients[0] & patients[1]
    assert patients[0] == {item["patient"] for item in items(manifest, "training")}
    assert len(sides[0]) > len(patients[0])


def test_a_photograph_gets_a_map_in_its_own_size(run: Path, manifest: Path, tmp_path: Path) -> None:
    network = load_network(run)
    assert isinstance(network, SVMHeatMap) and bool(network.svm.ready)
    picture = items(manifest, "test")[0]["image"]
    infer(run, picture, tmp_path / "out", device="cpu", set={"window_size": [48, 48]})
    row = json.loads((tmp_path / "out" / "predictions.jsonl").read_text().splitlines()[0])
    assert sorted(name.rsplit("_", 1)[1] for name in row["files"]) == ["overlay.png", "probability.png", "seg.png"]
    assert row["details"]["inference"]["windows_total"] > 1
    pictures = {name.rsplit("_", 1)[1]: np.asarray(Image.open(tmp_path / "out" / name)) for name in row["files"]}
    assert pictures["seg.png"].shape == pictures["probability.png"].shape == (48, 64)
    assert ((pictures["probability.png"] >= 128) == (pictures["seg.png"] > 0)).mean() > 0.99


@pytest.mark.slow
def test_learns_exudates_from_phantoms(tmp_path: Path) -> None:
    manifest = write_eophtha(tmp_path / "eyes", 40, 20, seed=1, size=(96, 128))
    settings = {**TRAINED, "image_size": 96, "max_epochs": 8, "capacity": 512}
    run = train(BUNDLE, manifest, tmp_path / "run", set=settings, device="cpu")
    test = items(manifest, "test")
    summary = infer(run, [item["image"] for item in test], tmp_path / "out", device="cpu")
    scores, truths = [], []
    for row, item in zip(summary.rows, test, strict=True):
        name = next(name for name in row["files"] if name.endswith("_probability.png"))
        scores.append(np.asarray(Image.open(tmp_path / "out" / name)).T.ravel())
        truths.append(load(item["label"], constant_ok=True).array.ravel() > 0)
    auc = roc_auc_score(np.concatenate(truths), np.concatenate(scores))
    print(f"pixel AUC {auc:.3f}")
    assert auc > 0.9
