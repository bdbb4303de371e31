"""What is special about this bundle: gates on channels, a second answer on the way, and the density of a breast."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from medresnet3d.bundle.load import load_config, load_network
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data import items
from medresnet3d.data.phantoms.mammography import write_cbis_ddsm, write_inbreast, write_mini_mias
from medresnet3d.networks.layers.se_attention import SEAttention, opened
from medresnet3d.workflows.predictor import Predictor
from medresnet3d.workflows.train import train
from tests.bundles.as_configured import accuracy, learn, network_of, parameter_count

BUNDLE = find_bundle("breast_density_se_attention")
TINY = {"image_size": 32, "max_epochs": 1, "batch_size": 8}


@pytest.mark.parametrize(
    ("overrides", "parameters"),
    [({}, 473_812), ({"size": "paper"}, 43_471_880), ({"size": "paper", "arch": "densenet121"}, 7_268_152)],
)
def test_the_published_networks_are_one_or_two_ids_away(overrides: dict[str, Any], parameters: int) -> None:
    network = network_of(BUNDLE, **overrides)
    assert parameter_count(network) == parameters


def test_the_loss_is_that_of_the_answer_and_0_3_of_that_on_the_way() -> None:
    loss = load_config(BUNDLE, ("train.json",), {"device": "cpu"}).get_parsed_content("loss").train()
    logits, auxiliary, label = torch.randn(4, 4), torch.randn(4, 4), torch.tensor([0, 1, 2, 3])
    plain = torch.nn.functional.cross_entropy
    for _ in range(3):  # it does not fade
        torch.testing.assert_close(
            loss([logits, auxiliary], label), plain(logits, label) + 0.3 * plain(auxiliary, label)
        )
    torch.testing.assert_close(loss(logits, label), plain(logits, label))


@pytest.mark.parametrize(
    ("write", "labels"),
    [
        (lambda folder: write_inbreast(folder, 6, size=(48, 36), task="density"), ("1", "2", "3", "4")),
        (lambda folder: write_cbis_ddsm(folder, 8, 2, size=(48, 36), task="density"), ("1", "2", "3", "4")),
        (
            lambda folder: write_mini_mias(folder, 6, size=48, task="density"),
            ("fatty", "fatty-glandular", "dense-glandular"),
        ),
    ],
    ids=["inbreast", "cbis_ddsm", "mini_mias"],
)
def test_three_collections_have_densities(write: Any, labels: tuple[str, ...], tmp_path: Path) -> None:
    from medresnet3d.data import load_manifest

    manifest = load_manifest(write(tmp_path))
    assert manifest.labels == labels
    assert {item["label"] for item in items(manifest, "training")} <= set(range(len(labels)))


def test_a_trained_run_answers_by_its_gates(tmp_path: Path) -> None:
    manifest = write_inbreast(tmp_path / "films", 12, size=(64, 48), task="density", difficulty=0.1)
    run = train(BUNDLE, manifest, tmp_path / "run", set=TINY, device="cpu")
    network = load_network(run).eval()
    gated = [module for module in network.modules() if isinstance(module, SEAttention)]
    assert len(gated) == 4
    predictor, item = Predictor(run, device="cpu"), items(manifest, "test")[0]
    probabilities = predictor(item["image"]).probabilities
    assert list(probabilities) == ["1", "2", "3", "4"]
    image = predictor.parts.preprocessing(item)["image"].as_tensor()[None]
    with torch.inference_mode():
        torch.testing.assert_close(
            torch.tensor(list(probabilities.values())), network(image).softmax(1)[0], rtol=1e-3, atol=1e-4
        )
        with opened(network):
            assert not torch.allclose(network(image).softmax(1)[0], torch.tensor(list(probabilities.values())))


@pytest.mark.slow
def test_learns_density_from_phantoms(tmp_path: Path) -> None:
    manifest = write_inbreast(tmp_path / "films", 120, seed=3, size=(96, 72), task="density", difficulty=0.2)
    network, images, labels = learn(BUNDLE, manifest, tmp_path / "run", max_epochs=15)
    right = accuracy(network, images, labels)
    print(f"{right:.3f} right of {len(labels)} phantoms")
    assert right > 0.7
