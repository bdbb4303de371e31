"""What is special about this bundle: dense deconvolution and side outputs, and answers on whole pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from medresnet3d.bundle.load import load_config, load_network
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data import items
from medresnet3d.data.phantoms.specimens import write_specimens
from medresnet3d.io import load
from medresnet3d.workflows.evaluate import evaluate
from medresnet3d.workflows.infer import infer
from medresnet3d.workflows.train import train
from tests.bundles.as_configured import network_of, parameter_count, prepared

BUNDLE = find_bundle("hep2_dsfcn")
TINY = {"arch": "resnet10", "patch_size": 32, "patches_per_image": 1, "max_epochs": 1, "batch_size": 4}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_specimens(tmp_path_factory.mktemp("specimens"), 4, size=(40, 52), cell=16)


@pytest.fixture(scope="module")
def run(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(BUNDLE, manifest, tmp_path_factory.mktemp("run") / "run", set=TINY, device="cpu")


def test_validation_looks_through_the_windows_of_inference() -> None:
    config, inference = (load_config(BUNDLE, (f"{name}.json",)) for name in ("train", "inference"))
    assert config["validate::inferer"] == inference["inferer"]


@pytest.mark.parametrize(
    ("overrides", "parameters"),
    [
        ({}, 1_565_560),
        ({"size": "paper", "arch": "resnet50"}, 54_063_048),
        ({"size": "paper", "arch": "resnet101"}, 73_055_176),
    ],
)
def test_the_published_size_is_one_id_away(overrides: dict[str, Any], parameters: int) -> None:
    network = network_of(BUNDLE, **overrides)
    assert parameter_count(network) == parameters


def test_a_picture_gets_a_label_map_of_its_own_size(run: Path, manifest: Path, tmp_path: Path) -> None:
    picture = items(manifest, "test")[0]["image"]
    infer(run, [picture], tmp_path, device="cpu", precision="fp32", set={"window_size": 0})
    (answer,) = tmp_path.glob("*_seg.*")
    found, seen = load(answer, constant_ok=True), load(picture)
    assert found.shape == seen.shape
    with torch.inference_mode():
        expected = load_network(run)(prepared(run / "bundle", picture)).argmax(1)[0]
    assert (torch.as_tensor(found.array)[..., 0] == expected).float().mean() > 0.99


def test_evaluation_gives_the_figures_of_the_paper(run: Path, manifest: Path, tmp_path: Path) -> None:
    found = evaluate(run, manifest, tmp_path, device="cpu", n_boot=20)["cell"]
    assert {"dice", "jaccard", "accuracy", "sensitivity", "specificity"} <= set(found)


def test_the_loss_weighs_every_output(manifest: Path, tmp_path: Path) -> None:
    overrides = {**TINY, "data": str(manifest), "output_dir": str(tmp_path), "device": "cpu"}
    parser = load_config(BUNDLE, ("train.json",), overrides)
    loss, network = parser.get_parsed_content("loss"), parser.get_parsed_content("network").train()
    outputs, target = network(torch.rand(2, 1, 32, 32)), torch.randint(2, (2, 1, 32, 32))
    weights = parser.get_parsed_content("output_weights")
    parts = [float(loss(output, target)) for output in outputs]
    assert len(parts) == len(weights) == 4
    expected = sum(weight * part for weight, part in zip(weights, parts, strict=True))
    assert float(loss(outputs, target)) == pytest.approx(expected, rel=1e-5)
