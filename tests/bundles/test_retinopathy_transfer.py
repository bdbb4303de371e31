"""What is special about this bundle: four families by one id, tuned by a search, and eyes that stay together."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data import items
from medresnet3d.data.phantoms.fundus import write_eyepacs
from medresnet3d.metrics import QuadraticKappa
from medresnet3d.networks.transfer import freeze_depths
from medresnet3d.workflows import search_outcome, search_trial
from medresnet3d.workflows.evaluate import evaluate
from medresnet3d.workflows.search import search
from medresnet3d.workflows.search_space import read_space
from medresnet3d.workflows.train import train
from tests.bundles.as_configured import answers, learn, network_of, parameter_count
from tests.workflows.searching import ToyTraining

BUNDLE = find_bundle("retinopathy_transfer")
SPACE = BUNDLE / "docs" / "search_space.json"
TINY = {"arch": "resnet10", "image_size": 32, "max_epochs": 1, "batch_size": 8}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_eyepacs(tmp_path_factory.mktemp("eyes"), training=20, test=10, size=(32, 40))


@pytest.mark.parametrize(
    ("overrides", "parameters"),
    [
        ({}, 702_741),
        ({"size": "paper", "arch": "alexnet"}, 57_024_325),
        ({"size": "paper", "arch": "vgg16"}, 134_281_029),
        ({"size": "paper", "arch": "googlenet"}, 5_605_029),
        ({"size": "paper", "arch": "resnet50"}, 23_518_277),
    ],
)
def test_the_four_families_are_one_id(overrides: dict[str, Any], parameters: int) -> None:
    network = network_of(BUNDLE, **overrides)
    assert parameter_count(network) == parameters


@pytest.mark.parametrize("seed", range(4))
def test_both_eyes_of_a_patient_are_on_one_side(manifest: Path, seed: int) -> None:
    """Of the split that the configuration makes, in every fold and in the official test part."""
    sides: dict[str, set[str]] = {}
    eyes: dict[str, int] = {}
    for section in ("training", "validation", "test"):
        for item in items(manifest, section, validation_fraction=0.3, seed=seed):
            sides.setdefault(item["patient"], set()).add(section)
            eyes[item["patient"]] = eyes.get(item["patient"], 0) + 1
    assert len(sides) == 15 and all(len(side) == 1 for side in sides.values())
    assert set(eyes.values()) == {2}


def test_every_depth_of_the_search_space_is_one_of_every_architecture() -> None:
    space = {one.name: one for one in read_space(SPACE)}
    for arch in space["arch"].choices:
        network = network_of(BUNDLE, arch=arch)
        assert set(space["freeze_until"].choices) <= set(freeze_depths(network)), arch
    ids = json.loads((BUNDLE / "configs" / "train.json").read_text())
    assert set(space) <= set(ids)


def worth(settings: Mapping[str, Any]) -> float:
    """What the toy training comes to: best for ResNet-18 from the first stage on, at a learning rate of 0.003."""
    depth = ["none", "stem", "stage1", "stage2"].index(settings["freeze_until"])
    distance = (math.log10(settings["learning_rate"]) + 2.5) ** 2 + 0.3 * abs(depth - 2)
    return 1 / (1 + distance + (settings["arch"] != "resnet18") + 0.1 * (settings["batch_size"] != 16))


def test_the_search_picks_the_known_optimum_of_the_space(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        search_trial, "train", ToyTraining(tmp_path / "log.txt", worth=worth, metric="val_quadratic_kappa")
    )
    monkeypatch.setattr(search_outcome, "_write_report", lambda *arguments: None)
    result = search(BUNDLE, manifest, SPACE, tmp_path / "out", trials=20, seed=1, prune=False, device="cpu")
    assert result.metric == "quadratic_kappa" and result.best is not None
    assert result.values["arch"] == "resnet18" and result.values["freeze_until"] == "stage1"
    assert abs(math.log10(result.values["learning_rate"]) + 2.5) < 0.5


def test_grades_are_validated_and_evaluated_by_the_quadratic_kappa(manifest: Path, tmp_path: Path) -> None:
    run = train(BUNDLE, manifest, tmp_path / "run", set=TINY, device="cpu")
    header = (run / "metrics.csv").read_text().splitlines()[0]
    assert "val_quadratic_kappa" in header.split(",")
    evaluate(run, manifest, tmp_path / "evaluation", device="cpu", n_boot=20)
    found = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert -1 <= found["metrics"]["quadratic_kappa"]["value"] <= 1


@pytest.mark.slow
def test_a_real_search_prefers_what_learns(tmp_path: Path) -> None:
    """A rate that leaves the network where it began, or one that trains it: the better is known."""
    manifest = write_eyepacs(tmp_path / "eyes", 120, 0, size=(48, 64), difficulty=0.1)
    space = {"learning_rate": {"type": "categorical", "choices": [1e-7, 0.02]}}
    tiny = {"image_size": 48, "arch": "resnet10"}
    result = search(BUNDLE, manifest, space, tmp_path / "out", trials=2, budget="15epochs", set=tiny, device="cpu")
    assert result.values["learning_rate"] == 0.02


@pytest.mark.slow
@pytest.mark.parametrize("local_average", [False, True])
def test_learns_grades_from_phantoms(tmp_path: Path, local_average: bool) -> None:
    manifest = write_eyepacs(tmp_path / "eyes", 300, 200, seed=3, size=(96, 128), difficulty=0.3)
    network, images, labels = learn(BUNDLE, manifest, tmp_path / "run", local_average=local_average)
    kappa = QuadraticKappa(5)
    kappa.update((list(answers(network, images)), list(torch.eye(5)[labels])))
    print(f"local_average={local_average}: quadratic kappa {kappa.compute():.3f}")
    assert kappa.compute() > 0.6
