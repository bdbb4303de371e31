"""What is special about this bundle: the last blocks of a pretrained network learn, on findings cut out of films."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

import medresnet3d
from medresnet3d.bundle.load import load_config, load_network
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data.phantoms.mammography import breast_film, write_cbis_ddsm, write_mini_mias
from medresnet3d.data.preparation.radiographs import mask_box, write_mammogram
from medresnet3d.workflows.compare import Comparison
from medresnet3d.workflows.compare_presets import preset_factor
from medresnet3d.workflows.evaluate import evaluate
from medresnet3d.workflows.predictor import Predictor
from medresnet3d.workflows.train import train
from tests.bundles.as_configured import answers, learn, network_of, parameter_count

BUNDLE = find_bundle("mammogram_mass_transfer")
TINY = {"arch": "resnet10", "image_size": 32, "max_epochs": 2, "batch_size": 8}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cbis_ddsm(tmp_path_factory.mktemp("masses"), 16, 6, size=(64, 48), difficulty=0.2)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the network with a thousand classes, as if they were published."""
    path = tmp_path_factory.mktemp("weights") / "published.pt"
    torch.manual_seed(4)
    network = load_config(BUNDLE, ("inference.json",), {**_shared(), "num_classes": 1000}).get_parsed_content(
        "network_def"
    )
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def run(manifest: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    start = {"pretrained": str(weights), "freeze_until": "stage2"}
    return train(BUNDLE, manifest, tmp_path_factory.mktemp("run") / "run", set={**TINY, **start}, device="cpu")


def _shared() -> dict[str, Any]:
    return {key: TINY[key] for key in ("arch", "image_size")}


@pytest.mark.parametrize(
    ("overrides", "parameters"),
    [
        ({}, 702_354),
        ({"size": "paper"}, 23_512_130),
        ({"size": "paper", "arch": "vgg16"}, 134_268_738),
        ({"size": "paper", "arch": "inception_v3"}, 21_789_666),
    ],
)
def test_the_published_networks_are_one_or_two_ids_away(overrides: dict[str, Any], parameters: int) -> None:
    network = network_of(BUNDLE, **overrides)
    assert parameter_count(network) == parameters


LEARNING = {
    "resnet50": (r"layer[34]\.|classifier\.", ("layer1.", "layer2.", "conv1.", "bn1.")),
    "vgg16": (r"features\.(17|19|21|24|26|28)\.|hidden\.|classifier\.", ("features.0.", "features.14.")),
}


@pytest.mark.parametrize("arch", LEARNING)
def test_with_stage2_the_last_two_convolutional_blocks_learn_and_nothing_before(arch: str) -> None:
    """The audit of ``requires_grad`` for n = 2."""
    overrides = {"arch": arch, "freeze_until": "stage2", "device": "cpu"}
    network = load_config(BUNDLE, ("train.json",), overrides).get_parsed_content("initial_network")
    learning = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    pattern, before = LEARNING[arch]
    names = [name for name, _ in network.named_parameters()]
    assert learning == {name for name in names if re.match(pattern, name)}
    assert all(any(name.startswith(part) for name in names) for part in before)
    assert not any(name.startswith(part) for name in learning for part in before)
    network.train()
    norms = {n: m for n, m in network.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    assert {n for n, m in norms.items() if m.training} == {n for n in norms if re.match(pattern, f"{n}.")}


def test_what_is_frozen_comes_out_of_a_training_as_it_went_in(run: Path, weights: Path) -> None:
    before, after = torch.load(weights, weights_only=True), load_network(run).state_dict()
    frozen = {name for name in before if name.startswith(("conv1", "bn1", "layer1", "layer2"))}
    same = {name for name in before if not name.startswith("classifier") and torch.equal(before[name], after[name])}
    assert any("running_mean" in name for name in frozen)
    assert frozen <= same
    assert not any(name.endswith("weight") for name in same - frozen)


def test_it_answers_a_dicom_film_by_box_by_point_and_cut_out(run: Path, tmp_path: Path) -> None:
    film = breast_film(9, (64, 48), malignant=True)
    write_mammogram(tmp_path / "film.dcm", film.pixels, bits=12, inverted=True, spacing=0.5)
    x0, y0, x1, y1 = mask_box(film.mass)
    edge = round(max(x1 - x0, y1 - y0) * 1.5)
    predictor = Predictor(run, device="cpu")
    by_box = predictor({"image": str(tmp_path / "film.dcm"), "roi": [x0, y0, x1, y1]})
    left, top = round((x0 + x1) / 2 - edge / 2), round((y0 + y1) / 2 - edge / 2)
    write_mammogram(tmp_path / "cut.dcm", film.pixels[top : top + edge, left : left + edge], bits=12)
    cut_out = predictor(str(tmp_path / "cut.dcm"))
    assert by_box.probabilities == pytest.approx(cut_out.probabilities, abs=1e-3)
    affine = medresnet3d.io.load(tmp_path / "film.dcm").affine
    point = affine @ [(x0 + x1) / 2, (y0 + y1) / 2, 0, 1]
    assert sum(predictor(str(tmp_path / "film.dcm"), position=point[:3]).probabilities.values()) == pytest.approx(1)


@pytest.mark.slow
def test_another_collection_is_an_external_test(run: Path, tmp_path: Path) -> None:
    other = write_mini_mias(tmp_path / "mias", 8, size=64)
    result = evaluate(run, other, tmp_path / "out", device="cpu", section="all", n_boot=20)
    assert result.exit_code == 0
    assert len(list((tmp_path / "out").glob("predictions.csv"))) == 1


def test_the_sweep_goes_over_every_depth_of_the_network() -> None:
    levels = preset_factor("freeze-depth").levels
    counts = []
    for name in ("last_layer", "last_block", "last_2_blocks", "last_3_blocks", "all_but_stem", "all"):
        network = load_config(BUNDLE, ("train.json",), {**levels[name], "device": "cpu"}).get_parsed_content(
            "initial_network"
        )
        counts.append(sum(p.numel() for p in network.parameters() if p.requires_grad))
    assert len(levels) == len(counts) and counts == sorted(set(counts))
    assert preset_factor("freeze-depth").baseline == "last_2_blocks"


@pytest.mark.slow
def test_the_sweep_runs_on_masses_and_says_what_it_found(manifest: Path, weights: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"seeds": 2, "budget": "4steps", "workers": 1, "device": "cpu"}
    given = {**_shared(), "pretrained": str(weights), "batch_size": 8}
    result = medresnet3d.compare(BUNDLE, manifest, tmp_path / "sweep", preset="freeze-depth", set=given, **options)
    assert isinstance(result, Comparison) and result.exit_code == 0
    assert {arm.name for arm in result.summary.arms} == set(preset_factor("freeze-depth").levels)


@pytest.mark.slow
def test_learns_masses_from_phantoms(tmp_path: Path) -> None:
    manifest = write_cbis_ddsm(tmp_path / "masses", 200, 80, seed=3, size=(96, 72), difficulty=0.3)
    network, images, labels = learn(BUNDLE, manifest, tmp_path / "run")
    auc = roc_auc_score(labels, answers(network, images).softmax(1)[:, 1])
    print(f"AUC {auc:.3f} on {len(labels)} phantoms")
    assert auc > 0.85
