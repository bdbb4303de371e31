"""What is special about this bundle: four networks that learn apart, and a fusion weighed on validation pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medresnet3d.bundle.load import load_config, load_network
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data import items
from medresnet3d.data.phantoms.dermoscopy import write_isic2017
from medresnet3d.engines.features import extract
from medresnet3d.networks.ensembles import RULES, fuse, member_accuracies
from medresnet3d.workflows.predictor import Predictor
from medresnet3d.workflows.train import train

BUNDLE = find_bundle("skin_lesion_ensemble")
TINY = {"archs": ["resnet10", "googlenet"], "image_size": 32, "max_epochs": 2, "batch_size": 6}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_isic2017(tmp_path_factory.mktemp("lesions"), 18, 9, 6, size=(32, 40), difficulty=0.2)


@pytest.fixture(scope="module")
def run(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(BUNDLE, manifest, tmp_path_factory.mktemp("run") / "run", set=TINY, device="cpu")


def test_train_and_inference_share_the_ids_that_shape_network_and_input() -> None:
    train_config, inference = (
        json.loads((BUNDLE / "configs" / f"{name}.json").read_text()) for name in ("train", "inference")
    )
    shared = (
        *("size", "members", "archs", "activation", "normalisation", "dropout", "dropconnect", "num_classes"),
        *("rule", "joint", "image_sizes", "image_size", "flips", "precision", "network_def"),
    )
    assert {key: train_config[key] for key in shared} == {key: inference[key] for key in shared}
    assert train_config["validate"]["preprocessing"] == inference["preprocessing"]
    assert train_config["validate"]["inferer"] == inference["inferer"]


@pytest.mark.parametrize(("size", "parameters"), [("slim", 2_983_508), ("paper", 220_461_948)])
def test_the_published_size_is_one_id_away(size: str, parameters: int) -> None:
    with torch.device("meta"):
        network = load_config(BUNDLE, ("inference.json",), {"size": size}).get_parsed_content("network_def")
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    names = [type(member).__name__ for member in network.members]
    assert names == ["AlexNet", "VGG", "GoogLeNet", "ResNetClassifier"]


def test_the_weights_of_the_fusion_are_accuracies_on_validation_pictures(run: Path, manifest: Path) -> None:
    network = load_network(run)
    overrides: dict[str, Any] = {**TINY, "data": str(manifest), "device": "cpu"}
    data = load_config(BUNDLE, ("train.json",), overrides).get_parsed_content("validate#dataset")
    assert [item["patient"] for item in data.data] == [item["patient"] for item in items(manifest, "validation")]
    cases = extract(network, data, lambda images: network.opinions(images).transpose(0, 1).flatten(1))
    opinions = cases.features.unflatten(1, (2, 3)).transpose(0, 1)
    torch.testing.assert_close(network.weights, member_accuracies(opinions, torch.tensor(cases.labels)))
    assert not torch.equal(network.weights, torch.ones(2))


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_is_one_id_of_a_trained_ensemble(run: Path, manifest: Path, rule: str) -> None:
    picture = items(manifest, "test")[0]["image"]
    prediction = Predictor(run, device="cpu", rule=rule, flips=[], precision="fp32")(picture)
    network = load_network(run)
    parser = load_config(run / "bundle", ("inference.json",))
    image = parser.get_parsed_content("preprocessing")({"image": picture})["image"].as_tensor()[None]
    with torch.inference_mode():
        expected = fuse(network.opinions(image), rule, network.weights).exp()[0]
    np.testing.assert_allclose(list(prediction.probabilities.values()), expected, atol=1e-5)


@pytest.mark.slow
def test_learns_lesions_from_phantoms(tmp_path: Path) -> None:
    manifest = write_isic2017(tmp_path / "lesions", 150, 45, 90, seed=3, size=(72, 96), difficulty=0.2)
    overrides = {"data": str(manifest), "output_dir": str(tmp_path / "run"), "device": "cpu", "image_size": 64}
    parser = load_config(BUNDLE, ("train.json",), {**overrides, "max_epochs": 20})
    parser.get_parsed_content("initialize")
    parser.get_parsed_content("train#trainer").run()
    network, transform = (
        parser.get_parsed_content("network").eval(),
        parser.get_parsed_content("validate#preprocessing"),
    )
    test = items(manifest, "test")
    with torch.inference_mode():
        answers = [network(transform(item)["image"].as_tensor()[None])[0].exp() for item in test]
    right = np.mean([int(answer.argmax()) == item["label"] for answer, item in zip(answers, test, strict=True)])
    assert right > 0.7
