"""What is special about this bundle: cross connections inside and between residual blocks, without any parameter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from medresnet3d.bundle.load import load_config, load_network
from medresnet3d.bundle.registry import find_bundle, read_metadata
from medresnet3d.data import items
from medresnet3d.data.phantoms.cells import I3A, write_i3a
from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.cross_residual import CROSS
from medresnet3d.workflows.predictor import Predictor
from medresnet3d.workflows.train import train
from tests.bundles.as_configured import accuracy, learn, network_of, parameter_count, prepared

BUNDLE = find_bundle("hep2_cross_residual")
TINY = {"repeats": {"slim": [1, 2]}, "image_size": 32, "max_epochs": 1, "batch_size": 8}


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_i3a(tmp_path_factory.mktemp("i3a"), 30, size=32, cells_per_specimen=1)


def test_the_classes_are_the_six_of_i3a() -> None:
    config = load_config(BUNDLE, ("inference.json",))
    assert config.get_parsed_content("class_names") == list(I3A) == list(read_metadata(BUNDLE)["labels"].values())


@pytest.mark.parametrize(("size", "parameters"), [("slim", 702_870), ("paper", 17_450_310)])
def test_the_published_size_is_one_id_away_and_cross_connections_cost_no_parameter(size: str, parameters: int) -> None:
    for cross in CROSS:
        assert parameter_count(network_of(BUNDLE, size=size, cross=cross)) == parameters


def test_without_cross_connections_it_is_resnet_exactly() -> None:
    torch.manual_seed(0)
    plain = build_classifier("resnet18", 2, 3, 6, "slim").eval()
    image = torch.rand(2, 3, 80, 80)
    for cross in CROSS:
        network = load_config(BUNDLE, ("inference.json",), {"cross": cross}).get_parsed_content("network_def").eval()
        network.load_state_dict(plain.state_dict())
        with torch.no_grad():
            assert torch.equal(network(image), plain(image)) == (cross == "none")


def test_a_run_keeps_its_cross_connections(cells: Path, tmp_path: Path) -> None:
    run = train(BUNDLE, cells, tmp_path / "run", set={**TINY, "cross": "both"}, device="cpu")
    network = load_network(run)
    assert network.layer2.intra and network.layer2.inter
    picture = items(cells, "test")[0]["image"]
    prediction = Predictor(run, device="cpu")(picture)
    image = prepared(run / "bundle", picture)
    with torch.inference_mode():
        expected = network(image).softmax(1)[0]
    np.testing.assert_allclose(list(prediction.probabilities.values()), expected, atol=1e-5)


def test_each_cell_is_stretched_to_black_and_white(cells: Path) -> None:
    transform = load_config(BUNDLE, ("inference.json",), {"image_size": 32}).get_parsed_content("preprocessing")
    for item in items(cells, "all")[:6]:
        grey = transform(item)["image"][0] * 0.229 + 0.485
        assert float(grey.min()) == pytest.approx(0, abs=0.05) and float(grey.max()) == pytest.approx(1, abs=0.05)


@pytest.mark.slow
def test_learns_patterns_from_phantoms(tmp_path: Path) -> None:
    manifest = write_i3a(tmp_path / "cells", 480, seed=3, size=48, cells_per_specimen=2)
    network, images, labels = learn(BUNDLE, manifest, tmp_path / "run", image_size=48, max_epochs=15)
    assert accuracy(network, images, labels) > 0.85
