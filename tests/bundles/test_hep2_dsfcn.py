"""What is special about this bundle: dense deconvolution and side outputs, and answers on whole pictures."""

from __future__ import annotations

import json
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

BUNDLE = find_bundle("hep2_dsfcn")
TINY = {"arch": "resnet10", "patch_size": 32, "patches_per_image": 1, "max_epochs": 1, "batch_size": 4}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_specimens(tmp_path_factory.mktemp("specimens"), 4, size=(40, 52), cell=16)


@pytest.fixture(scope="module")
def run(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(BUNDLE, manifest, tmp_path_factory.mktemp("run") / "run", set=TINY, device="cpu")


def test_train_and_inference_share_the_ids_that_shape_network_and_input() -> None:
    train_config, inference = (
        json.loads((BUNDLE / "configs" / f"{name}.json").read_text()) for name in ("train", "inference")
    )
    shared = (
        *("arch", "size", "dense_deconvolution", "activation", "normalisation", "dropout", "num_classes", "precision"),
        *("percentiles", "window_size", "window_overlap", "network_def", "inferer"),
    )
    expected = {key: inference[key] for key in shared}
    assert {
        **{key: train_config.get(key) for key in shared},
        "inferer": train_config["validate"]["inferer"],
    } == expected


@pytest.mark.parametrize(
    ("overrides", "parameters"),
    [
        ({}, 1_565_560),
        ({"size": "paper", "arch": "resnet50"}, 54_063_048),
        ({"size": "paper", "arch": "resnet101"}, 73_055_176),
    ],
)
def test_the_published_size_is_one_id_away(overrides: dict[str, Any], parameters: int) -> None:
    with torch.device("meta"):
        network = load_config(BUNDLE, ("inference.json",), overrides).get_parsed_content("network_def")
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_a_picture_gets_a_label_map_of_its_own_size(run: Path, manifest: Path, tmp_path: Path) -> None:
    picture = items(manifest, "test")[0]["image"]
    infer(run, [picture], tmp_path, device="cpu", precision="fp32", set={"window_size": 0})
    (answer,) = tmp_path.glob("*_seg.*")
    found, seen = load(answer, constant_ok=True), load(picture)
    assert found.shape == seen.shape
    parser = load_config(run / "bundle", ("inference.json",))
    image = parser.get_parsed_content("preprocessing")({"image": picture})["image"].as_tensor()
    with torch.inference_mode():
        expected = load_network(run)(image[None]).argmax(1)[0]
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
