"""What is special about this bundle: two questions at each magnification, and a tree that knows whom to trust."""

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
from medresnet3d.data.phantoms.histology import write_breakhis
from medresnet3d.workflows.evaluate import evaluate
from medresnet3d.workflows.predictor import Predictor
from medresnet3d.workflows.train import train
from tests.bundles.as_configured import accuracy, learn, network_of, parameter_count, prepared

BUNDLE = find_bundle("breast_histology_mudern")
TINY = {"max_epochs": 1, "batch_size": 8, "tree_folds": 2, "min_leaf": 1, "image_size": [48, 32]}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_breakhis(tmp_path_factory.mktemp("sections"), patients=4, images=1, size=(32, 48))


@pytest.fixture(scope="module")
def run(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(BUNDLE, manifest, tmp_path_factory.mktemp("run") / "run", set=TINY, device="cpu")


@pytest.mark.parametrize(
    ("overrides", "trunks", "parameters"),
    [
        ({}, 4, 1_242_984),
        pytest.param({"size": "paper", "arch": "resnet152"}, 12, 697_807_656, marks=pytest.mark.slow),
    ],
)
def test_the_published_size_is_one_id_away(overrides: dict[str, Any], trunks: int, parameters: int) -> None:
    network = network_of(BUNDLE, **overrides)
    assert len(network.trunks) == trunks
    assert parameter_count(network) == parameters


def test_the_ready_bundle_has_a_tree_and_answers_without_some_magnifications(run: Path, manifest: Path) -> None:
    network, predictor = load_network(run), Predictor(run, device="cpu")
    assert bool(network.fitted_tree)
    images = items(manifest, "test")[0]["image"]
    whole = predictor(images)
    assert len(whole.probabilities) == 8 and sum(whole.probabilities.values()) == pytest.approx(1, abs=1e-5)
    image = prepared(run / "bundle", images)
    with torch.inference_mode():
        expected = network(image).exp()[0]
    np.testing.assert_allclose(list(whole.probabilities.values()), expected, atol=1e-5)
    for part in (images[:2], images[3]):
        assert sum(predictor(part).probabilities.values()) == pytest.approx(1, abs=1e-5)


def test_the_evaluation_has_the_patient_score(run: Path, manifest: Path, tmp_path: Path) -> None:
    evaluate(run, manifest, tmp_path, device="cpu", n_boot=20)
    found = json.loads((tmp_path / "metrics.json").read_text())["metrics"]
    assert 0 <= found["patient_score"]["value"] <= 1


def test_the_folds_of_the_tree_keep_patients_apart_and_leave_validation_out(manifest: Path) -> None:
    overrides = {**TINY, "data": str(manifest), "device": "cpu"}
    opinions = load_config(BUNDLE, ("train.json",), overrides).get_parsed_content("opinions")
    patients = [item["patient"] for item in opinions.dataset.data]
    assert patients == [item["patient"] for item in items(manifest, "training")]
    for fold in range(2):
        learned, held_out = (
            {patients[case] for case in part(fold)} for part in (opinions.learned_from, opinions.held_out)
        )
        assert learned and held_out and not learned & held_out
        assert not held_out & {item["patient"] for item in items(manifest, "validation")}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_learns_types_from_phantoms_some_of_which_are_out_of_focus(tmp_path: Path, seed: int) -> None:
    """Of the two decisions, on the same networks; what is asserted is that types are learned."""
    path = write_breakhis(tmp_path / "data", patients=12, images=2, seed=seed, size=(64, 96), blurred=0.5, test=4)
    network, images, labels = learn(BUNDLE, path, tmp_path / "run", max_epochs=15, seed=seed)
    right = {}
    for decision in ("tree", "average"):
        network.decision = decision
        right[decision] = accuracy(network, images, labels)
    print(f"seed {seed}: {right}")
    assert max(right.values()) > 0.4
