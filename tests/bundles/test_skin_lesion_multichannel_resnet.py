"""What is special about this bundle: a network for each preprocessing of a picture, first apart, then joined."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medresnet3d.bundle.load import load_config, load_network
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data import items
from medresnet3d.data.phantoms.dermoscopy import write_isic2017
from medresnet3d.engines import load_checkpoint
from medresnet3d.networks.multi_input import TrunkClassifiers, build_multi_input
from medresnet3d.transforms.channel_packing import PackVersionsd
from medresnet3d.transforms.dermoscopy import skin_versions
from medresnet3d.workflows.predictor import Predictor
from medresnet3d.workflows.train import train
from tests.bundles.as_configured import assert_resuming_changes_nothing, network_of, parameter_count, prepared

BUNDLE = find_bundle("skin_lesion_multichannel_resnet")
TINY = {
    "arch": "resnet10",
    "versions": ["rgb", "hair_removed"],
    "image_size": 32,
    "trunk_epochs": 1,
    "max_epochs": 1,
    "batch_size": 6,
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_isic2017(tmp_path_factory.mktemp("lesions"), 12, 6, 6, size=(32, 40), difficulty=0.2)


@pytest.fixture(scope="module")
def run(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(BUNDLE, manifest, tmp_path_factory.mktemp("run") / "run", set=TINY, device="cpu")


@pytest.mark.parametrize(
    ("overrides", "parameters", "width"),
    [
        ({}, 2_809_923, 4 * 128),
        ({"share_weights": True}, 703_635, 4 * 128),
        ({"size": "paper"}, 94_056_707, 4 * 2048),
        ({"size": "paper", "versions": ["rgb", "grey_world", "edges"]}, 70_542_531, 3 * 2048),
    ],
)
def test_size_versions_and_sharing_are_one_id_each(overrides: dict[str, Any], parameters: int, width: int) -> None:
    network = network_of(BUNDLE, **overrides)
    assert network.classifier.in_features == width
    assert parameter_count(network) == parameters


def test_the_trunks_are_trained_apart_before_they_are_joined(run: Path) -> None:
    before = load_checkpoint(run / "stages" / "trunks" / "checkpoints" / "best.pt")["network"]
    after = load_network(run).state_dict()
    assert {name.split(".")[0] for name in before} == {"network", "classifiers"}
    learned = "trunks.0.layer4.0.conv1.weight"
    assert not torch.equal(before[f"network.{learned}"], after[learned]), "the joined stage trains the trunks too"


def test_a_resumed_run_trains_no_trunk_again(run: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrunkClassifiers, "forward", lambda *arguments: pytest.fail("trained again"))
    assert_resuming_changes_nothing(BUNDLE, manifest, run)


def test_without_epochs_of_their_own_the_trunks_begin_joined(manifest: Path) -> None:
    overrides = {**TINY, "trunk_epochs": 0, "data": str(manifest), "device": "cpu"}
    assert load_config(BUNDLE, ("train.json",), overrides).get_parsed_content("stages_before") == []


def test_dropping_a_channel_changes_its_part_of_the_features_and_the_answer(run: Path, manifest: Path) -> None:
    picture = items(manifest, "test")[0]["image"]
    prediction = Predictor(run, device="cpu")(picture)
    network = load_network(run)
    image = prepared(run / "bundle", picture)
    assert image.shape == (1, 6, 32, 32)
    dropped = image.clone()
    dropped[:, 3:] = 0
    with torch.inference_mode():
        answer = network(image).softmax(1)[0]
        np.testing.assert_allclose(list(prediction.probabilities.values()), answer, atol=1e-5)
        one, other = network.forward_features(image), network.forward_features(dropped)
        assert torch.equal(one[:, :128], other[:, :128]) and not torch.equal(one[:, 128:], other[:, 128:])
        assert not torch.allclose(network(dropped).softmax(1)[0], answer)


# ---- the proof: a cue of colour that grey-world takes away, and one of hairs that hair removal takes away

SIDE = 24


def cues(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Half of the pictures have a tint (red or blue) and no hairs, half have none and hairs (upright or lying).

    Returns:
        pictures (N, 3, 24, 24) between 0 and 1, and classes (N,), balanced within each half.
    """
    rng = np.random.default_rng(seed)
    pictures = rng.uniform(0.5, 0.7, (count, 1, 1, 1)) + rng.normal(0, 0.004, (count, 3, SIDE, SIDE))
    labels = np.arange(count) // 2 % 2
    for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        if number % 2:
            for place in rng.choice(np.arange(2, SIDE - 2, 5), 3, replace=False):
                (picture if label else picture.swapaxes(1, 2))[:, :, place] = 0.1
        else:
            picture[0 if label else 2] += 0.15
    return torch.from_numpy(pictures.clip(0, 1).astype(np.float32)), torch.from_numpy(labels)


@functools.cache
def versions(seed: int, count: int) -> tuple[dict[str, Tensor], Tensor]:
    pictures, labels = cues(count, seed)
    names = ["grey_world", "hair_removed"]
    pack = PackVersionsd("image", skin_versions(names))
    packed = torch.stack([pack({"image": picture})["image"] for picture in pictures]) - 0.5
    return dict(zip(names, packed.chunk(2, dim=1), strict=True)), labels


def accuracy(names: tuple[str, str], seed: int, rates: tuple[float, ...] = (1e-3, 3e-3), steps: int = 80) -> float:
    """Of two trunks on two versions (or one version twice), with the rate of the lowest loss in training."""
    given, labels = versions(seed, 96)
    unseen, truth = versions(1000 + seed, 96)
    found: list[tuple[float, float]] = []
    for rate in rates:
        torch.manual_seed(seed)
        network = build_multi_input("resnet10", 2, size="slim", dropout=0.0).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=rate)
        images, losses = torch.cat([given[name] for name in names], 1), []
        for _ in range(steps):
            part = torch.randperm(len(labels))[:16]
            loss = nn.functional.cross_entropy(network(images[part]), labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        with torch.inference_mode():
            answers = network.eval()(torch.cat([unseen[name] for name in names], 1))
        found.append((float(np.mean(losses[-20:])), float((answers.argmax(1) == truth).float().mean())))
    return min(found)[1]


SINGLE, BOTH = (("grey_world",) * 2, ("hair_removed",) * 2), ("grey_world", "hair_removed")


@pytest.mark.slow
def test_two_versions_add_up_where_each_has_one_cue() -> None:
    single, both = [accuracy(names, 0, rates=(1e-3,)) for names in SINGLE], accuracy(BOTH, 0, rates=(1e-3,))
    print(f"accuracy with one version: {single}, with both: {both:.2f}")
    assert max(single) < 0.85 and both > 0.93


@pytest.mark.slow
def test_two_versions_add_up_in_five_seeds() -> None:
    rows = [[accuracy(names, seed) for names in (*SINGLE, BOTH)] for seed in range(5)]
    print(f"accuracy (grey_world, hair_removed, both) by seed: {rows}")
    table = np.array(rows)
    gains = table[:, 2] - table[:, :2].max(1)
    assert gains.mean() - 2.78 * gains.std(ddof=1) / np.sqrt(5) > 0
    assert table[:, :2].mean(0).max() < 0.85 and table[:, 2].mean() > 0.95
