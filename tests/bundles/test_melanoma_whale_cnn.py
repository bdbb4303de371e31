"""What is special about this bundle: whales search its weights, and gradient descent refines what they found."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medresnet3d.bundle.load import load_config, load_network, unknown_id_hint
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data import items
from medresnet3d.data.phantoms.dermoscopy import write_isic2016
from medresnet3d.engines import load_checkpoint
from medresnet3d.engines.weight_search import MAX_DIMS, WeightCode, WeightSearch
from medresnet3d.workflows.predictor import Predictor
from medresnet3d.workflows.search import search
from medresnet3d.workflows.search_space import read_space
from medresnet3d.workflows.train import train
from tests.bundles.as_configured import assert_resuming_changes_nothing, parameter_count, prepared

BUNDLE = find_bundle("melanoma_whale_cnn")
TINY = {"max_epochs": 2, "population": 4, "iterations": 3, "batch_size": 8}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_isic2016(tmp_path_factory.mktemp("lesions"), 24, 8, size=(32, 40), difficulty=0.2)


@pytest.fixture(scope="module")
def run(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(BUNDLE, manifest, tmp_path_factory.mktemp("run") / "run", set=TINY, device="cpu")


def searched(run: Path) -> dict[str, Any]:
    return dict(load_checkpoint(run / "stages" / "weights.pt")["network"])


@pytest.mark.parametrize(("overrides", "parameters"), [({}, 2_974), ({"filters": [8, 12, 16, 16]}, 5_294)])
def test_all_weights_are_few_enough_for_a_swarm(overrides: dict[str, Any], parameters: int) -> None:
    network = load_config(BUNDLE, ("inference.json",), overrides).get_parsed_content("network_def")
    assert WeightCode(network).dims == parameter_count(network) == parameters
    assert parameters <= MAX_DIMS
    with torch.inference_mode():
        assert network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 2)


def test_the_best_whale_is_where_the_refinement_starts(run: Path) -> None:
    best = load_checkpoint(run / "stages" / "weights" / "swarm.pt")["swarm"]["best"]
    with (run / "stages" / "weights" / "search.csv").open(newline="") as file:
        course = [float(row["best"]) for row in csv.DictReader(file)]
    assert course == sorted(course, reverse=True) and len(course) == TINY["iterations"]
    assert course[-1] == pytest.approx(best["fitness"])
    found, refined = searched(run), load_network(run).state_dict()
    assert sum(value.numel() for value in found.values()) == len(best["position"]) == 2_974
    assert not torch.equal(found["classifier.weight"], refined["classifier.weight"])


def test_a_resumed_run_searches_nothing_again(run: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WeightSearch, "__call__", lambda *arguments: pytest.fail("searched again"))
    assert_resuming_changes_nothing(BUNDLE, manifest, run)


def test_without_refinement_the_answer_is_that_of_the_whales(manifest: Path, tmp_path: Path) -> None:
    chosen = {**TINY, "learning_rate": 0.0, "max_epochs": 1, "fitness": "mean_square"}
    alone = train(BUNDLE, manifest, tmp_path / "run", set=chosen, device="cpu")
    network = load_network(alone)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in searched(alone).items())
    picture = items(manifest, "test")[0]["image"]
    prediction = Predictor(alone, device="cpu")(picture)
    image = prepared(alone / "bundle", picture)
    with torch.inference_mode():
        expected = network(image).softmax(1)[0]
    np.testing.assert_allclose(list(prediction.probabilities.values()), expected, atol=1e-5)


def test_what_is_optimised_is_one_id(manifest: Path) -> None:
    def stages(target: str) -> list[Any]:
        overrides = {**TINY, "target": target, "data": str(manifest), "device": "cpu"}
        return list(load_config(BUNDLE, ("train.json",), overrides).get_parsed_content("stages_before"))

    assert [stage.name for stage in stages("weights")] == ["weights"] and stages("hyperparameters") == []


def test_the_space_of_hyperparameters_is_of_ids_of_the_bundle() -> None:
    space = read_space(BUNDLE / "configs" / "search_space.json")
    parser = load_config(BUNDLE, ("train.json",))
    assert {one.name for one in space} == {"filters", "kernel_size", "learning_rate", "dropout"}
    assert not any(unknown_id_hint(parser, one.name) for one in space)


@pytest.mark.slow
def test_whales_search_hyperparameters(manifest: Path, tmp_path: Path) -> None:
    chosen = {**TINY, "target": "hyperparameters", "max_epochs": 1}
    space = BUNDLE / "configs" / "search_space.json"
    result = search(
        BUNDLE, manifest, space, tmp_path / "search", method="improved_whale", trials=4, population=2, set=chosen
    )
    assert set(result.values) >= {"filters", "kernel_size", "learning_rate", "dropout"}
