"""What is special about this bundle: a support vector machine, fitted by patient once the network is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from medresnet3d.bundle.load import load_config, load_network
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data import items
from medresnet3d.data.phantoms.dermoscopy import write_isic2016
from medresnet3d.engines import load_checkpoint
from medresnet3d.engines.features import extract
from medresnet3d.networks.heads.svm import SVMHead
from medresnet3d.workflows.predictor import Predictor
from medresnet3d.workflows.train import train
from tests.bundles.as_configured import (
    answers,
    assert_resuming_changes_nothing,
    learn,
    network_of,
    parameter_count,
    prepared,
)

BUNDLE = find_bundle("melanoma_resnet_svm")
TINY = {"arch": "resnet10", "image_size": 32, "max_epochs": 2, "batch_size": 8, "svm_folds": 3}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_isic2016(tmp_path_factory.mktemp("lesions"), 24, 8, size=(32, 40), difficulty=0.2)


@pytest.fixture(scope="module")
def run(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    return train(BUNDLE, manifest, folder, set={**TINY, "kernel": "rbf", "capacity": 40}, device="cpu")


@pytest.mark.parametrize(
    ("overrides", "parameters", "features"),
    [({}, 702_354, 128), ({"size": "paper", "arch": "resnet152"}, 58_147_906, 2048)],
)
def test_the_published_size_is_one_id_away(overrides: dict[str, Any], parameters: int, features: int) -> None:
    network = network_of(BUNDLE, **overrides)
    assert parameter_count(network) == parameters
    assert network.svm.mean.shape == (features,)


def test_the_ready_bundle_answers_by_the_fitted_svm(run: Path, manifest: Path) -> None:
    network = load_network(run)
    assert bool(network.svm.ready) and network.svm.kernel == "rbf"
    best = load_checkpoint(run / "checkpoints" / "best.pt")
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in best["network"].items())
    picture = items(manifest, "test")[0]["image"]
    prediction = Predictor(run, device="cpu")(picture)
    image = prepared(run / "bundle", picture)
    with torch.inference_mode():
        expected = network.svm(network.svm_features(network.forward_features(image))).exp()[0]
    np.testing.assert_allclose(list(prediction.probabilities.values()), expected, atol=1e-5)


def test_the_metrics_of_the_run_are_those_of_the_svm(run: Path) -> None:
    last = load_checkpoint(run / "checkpoints" / "last.pt")
    metadata = json.loads((run / "bundle" / "configs" / "metadata.json").read_text())
    assert metadata["eval_metrics"] == pytest.approx(last["final_metrics"])


def test_fitted_on_the_training_patients_alone(run: Path, manifest: Path) -> None:
    """Scaler and machine know the training pictures, and nothing of those held out."""
    overrides: dict[str, Any] = {**TINY, "kernel": "rbf", "capacity": 40, "data": str(manifest), "device": "cpu"}
    parser = load_config(BUNDLE, ("train.json",), overrides)
    network = load_network(run)
    data = parser.get_parsed_content("stages_after")[0].fit.dataset
    patients = [item["patient"] for item in data.data]
    assert patients == [item["patient"] for item in items(manifest, "training")]
    assert not set(patients) & {item["patient"] for item in items(manifest, "validation") + items(manifest, "test")}
    cases = extract(network, data, lambda images: network.svm_features(network.forward_features(images)))
    torch.testing.assert_close(network.svm.mean, cases.features.double().mean(0).float())


def test_a_resumed_run_is_the_same_and_fits_nothing_again(
    run: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SVMHead, "from_sklearn", lambda *arguments: pytest.fail("fitted again"))
    assert_resuming_changes_nothing(BUNDLE, manifest, run)


def test_a_frozen_network_is_one_id(manifest: Path, tmp_path: Path) -> None:
    overrides = {**TINY, "trainable": "network.classifier", "data": str(manifest), "output_dir": str(tmp_path)}
    parser = load_config(BUNDLE, ("train.json",), {**overrides, "device": "cpu"})
    parser.get_parsed_content("initialize")
    network = parser.get_parsed_content("network")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    parser.get_parsed_content("train#trainer").run()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] for name in changed} == {"network", "svm"}
    assert {name for name in changed if name.startswith("network")} == {
        "network.classifier.weight",
        "network.classifier.bias",
    }


@pytest.mark.slow
def test_learns_lesions_from_phantoms(tmp_path: Path) -> None:
    manifest = write_isic2016(tmp_path / "lesions", 300, 100, seed=3, size=(72, 96), difficulty=0.3)
    network, images, labels = learn(BUNDLE, manifest, tmp_path / "run", image_size=64)
    assert roc_auc_score(labels, answers(network, images).softmax(1)[:, 1]) > 0.85
