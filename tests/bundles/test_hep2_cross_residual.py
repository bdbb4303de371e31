"""What is special about this bundle: cross connections inside and between residual blocks, without any parameter."""

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
from medresnet3d.data.phantoms.cells import I3A, write_i3a
from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.cross_residual import CROSS
from medresnet3d.workflows.predictor import Predictor
from medresnet3d.workflows.train import train

BUNDLE = find_bundle("hep2_cross_residual")
TINY = {"repeats": {"slim": [1, 2]}, "image_size": 32, "max_epochs": 1, "batch_size": 8}


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_i3a(tmp_path_factory.mktemp("i3a"), 30, size=32, cells_per_specimen=1)


def network_of(**overrides: Any) -> torch.nn.Module:
    network: torch.nn.Module = load_config(BUNDLE, ("inference.json",), overrides).get_parsed_content("network_def")
    return network


def test_train_and_inference_share_the_ids_that_shape_network_and_input() -> None:
    train_config, inference = (
        json.loads((BUNDLE / "configs" / f"{name}.json").read_text()) for name in ("train", "inference")
    )
    shared = (
        *("size", "repeats", "widths", "cross", "activation", "normalisation", "dropout", "dropconnect"),
        *("class_names", "num_classes", "image_sizes", "image_size", "percentiles", "prepare", "precision"),
        "network_def",
    )
    assert {key: train_config[key] for key in shared} == {key: inference[key] for key in shared}
    assert train_config["validate"]["preprocessing"] == inference["preprocessing"]
    assert train_config["class_names"] == list(I3A)


@pytest.mark.parametrize(("size", "parameters"), [("slim", 702_870), ("paper", 17_450_310)])
def test_the_published_size_is_one_id_away_and_cross_connections_cost_no_parameter(size: str, parameters: int) -> None:
    for cross in CROSS:
        with torch.device("meta"):
            network = network_of(size=size, cross=cross)
        assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_without_cross_connections_it_is_resnet_exactly() -> None:
    torch.manual_seed(0)
    plain = build_classifier("resnet18", 2, 3, 6, "slim").eval()
    image = torch.rand(2, 3, 80, 80)
    for cross in CROSS:
        network = network_of(cross=cross).eval()
        network.load_state_dict(plain.state_dict())
        with torch.no_grad():
            assert torch.equal(network(image), plain(image)) == (cross == "none")


def test_a_run_keeps_its_cross_connections(cells: Path, tmp_path: Path) -> None:
    run = train(BUNDLE, cells, tmp_path / "run", set={**TINY, "cross": "both"}, device="cpu")
    network = load_network(run)
    assert network.layer2.intra and network.layer2.inter
    picture = items(cells, "test")[0]["image"]
    prediction = Predictor(run, device="cpu")(picture)
    image = load_config(run / "bundle", ("inference.json",)).get_parsed_content("preprocessing")({"image": picture})
    with torch.inference_mode():
        expected = network(image["image"].as_tensor()[None]).softmax(1)[0]
    np.testing.assert_allclose(list(prediction.probabilities.values()), expected, atol=1e-5)


def test_each_cell_is_stretched_to_black_and_white(cells: Path) -> None:
    transform = load_config(BUNDLE, ("inference.json",), {"image_size": 32}).get_parsed_content("preprocessing")
    for item in items(cells, "all")[:6]:
        grey = transform(item)["image"][0] * 0.229 + 0.485
        assert float(grey.min()) == pytest.approx(0, abs=0.05) and float(grey.max()) == pytest.approx(1, abs=0.05)


@pytest.mark.slow
def test_learns_patterns_from_phantoms(tmp_path: Path) -> None:
    manifest = write_i3a(tmp_path / "cells", 480, seed=3, size=48, cells_per_specimen=2)
    overrides = {"data": str(manifest), "output_dir": str(tmp_path / "run"), "device": "cpu", "image_size": 48}
    parser = load_config(BUNDLE, ("train.json",), {**overrides, "max_epochs": 15})
    parser.get_parsed_content("initialize")
    parser.get_parsed_content("train#trainer").run()
    network = parser.get_parsed_content("network").eval()
    transform = parser.get_parsed_content("validate#preprocessing")
    test = items(manifest, "test")
    with torch.inference_mode():
        answers = [network(transform(item)["image"].as_tensor()[None])[0] for item in test]
    assert np.mean([int(a.argmax()) == item["label"] for a, item in zip(answers, test, strict=True)]) > 0.85
