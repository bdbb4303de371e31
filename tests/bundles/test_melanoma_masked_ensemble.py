"""What is special about this bundle: each of two networks sees pictures that are covered in its own way."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medresnet3d.bundle.load import load_config, load_network
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data import items
from medresnet3d.data.phantoms.dermoscopy import write_isic2016
from medresnet3d.networks.masked_ensemble import build_masked_ensemble
from medresnet3d.transforms.channel_packing import RandPackVersionsd
from medresnet3d.transforms.dermoscopy_masking import RandCoverSquares, RandCoverSurroundings
from medresnet3d.weights.normalisation import IMAGENET_DEVIATION, IMAGENET_MEAN
from medresnet3d.workflows.predictor import Predictor
from medresnet3d.workflows.train import train
from tests.bundles.as_configured import network_of, parameter_count, prepared

BUNDLE = find_bundle("melanoma_masked_ensemble")
TINY = {"arch": "resnet10", "image_size": 32, "max_epochs": 2, "batch_size": 8}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_isic2016(tmp_path_factory.mktemp("lesions"), 16, 8, size=(32, 40), difficulty=0.2)


def dataset(manifest: Path, part: str, **overrides: Any) -> Any:
    given = {**TINY, "augmentation": "none", "data": str(manifest), "device": "cpu", **overrides}
    return load_config(BUNDLE, ("train.json",), given).get_parsed_content(f"{part}#dataset")


def unit(image: Tensor) -> NDArray[np.float64]:
    """Undo the normalisation of pictures (3 n, i, j)."""
    pictures = image.double().numpy().reshape(-1, 3, *image.shape[1:])
    deviation, mean = (np.array(values)[:, None, None] for values in (IMAGENET_DEVIATION, IMAGENET_MEAN))
    return pictures * deviation + mean


@pytest.mark.parametrize(("size", "parameters"), [("slim", 1_421_156), ("paper", 49_119_876)])
def test_the_published_size_is_one_id_away(size: str, parameters: int) -> None:
    network = network_of(BUNDLE, size=size)
    assert parameter_count(network) == parameters


def test_each_network_gets_its_own_covering_of_the_same_picture_and_label(manifest: Path) -> None:
    covered = dataset(manifest, "train", cover_probability=1.0)
    plain = dataset(manifest, "train", cover_probability=0.0)
    assert len(covered) == len(plain)
    found = 0  # lesions, of which some are missed at this size
    for one, other in zip(covered, plain, strict=True):
        assert one["label"] == other["label"] and one["image"].shape == (6, 32, 32)
        (first, second), (whole, same) = unit(one["image"]), unit(other["image"])
        np.testing.assert_array_equal(whole, same)
        hidden = [(np.abs(each - whole) > 1e-6).any(0) for each in (first, second)]
        assert 0.15 < hidden[0].mean() <= 0.4 + 1 / 32**2, "a covered pixel may have had the colour of skin"
        assert (hidden[0] != hidden[1]).any()
        found += bool(hidden[1].any())
    assert found > len(covered) / 2


def test_nothing_is_covered_in_validation_and_inference(manifest: Path) -> None:
    validation = dataset(manifest, "validate", cover_probability=1.0)
    inference = load_config(BUNDLE, ("inference.json",), {"image_size": 32}).get_parsed_content("preprocessing")
    for index, item in enumerate(items(manifest, "validation")):
        picture = inference({"image": item["image"]})["image"].as_tensor()
        assert picture.shape == (3, 32, 32)
        torch.testing.assert_close(validation[index]["image"].as_subclass(Tensor), picture)


def test_the_answer_is_the_mean_of_both_networks(manifest: Path, tmp_path: Path) -> None:
    run = train(BUNDLE, manifest, tmp_path / "run", set=TINY, device="cpu")
    network, picture = load_network(run), items(manifest, "test")[0]["image"]
    image = prepared(run / "bundle", picture)
    with torch.inference_mode():
        answers = [member(image).softmax(1)[0] for member in network.members]
    prediction = Predictor(run, device="cpu")(picture)
    np.testing.assert_allclose(list(prediction.probabilities.values()), sum(answers) / 2, atol=1e-5)


# ---- the proof: a mark in the corner that goes with the class in training, and against it in the test


def lesions(count: int, seed: int, agrees: bool) -> tuple[Tensor, Tensor]:
    """Discs of one colour (class 0) or two (class 1) on skin, and a white square in a corner of one class.

    Returns:
        pictures (N, 3, 32, 32) between 0 and 1, and classes (N,).
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    pictures = np.empty((count, 3, 32, 32), np.float32)
    rows, columns = np.indices((32, 32))
    for picture, label in zip(pictures, labels, strict=True):
        picture[:] = np.array([0.8, 0.65, 0.6])[:, None, None]
        away = [rows, columns] - rng.uniform(14, 18, 2)[:, None, None]
        disc = np.hypot(*away) < rng.uniform(7, 9)
        side = away[0] * np.cos(angle := rng.uniform(0, 2 * np.pi)) + away[1] * np.sin(angle) > 0
        shade = 0.4 + 0.25 * label * np.where(side, 1, -1)
        picture[:, disc] = (np.array([1, 0.7, 0.5])[:, None, None] * shade)[:, disc]
        if label == agrees:
            picture[:, 2:8, 2:8] = 0.95
        picture += rng.normal(0, 0.03, picture.shape)
    return torch.from_numpy(pictures.clip(0, 1)), torch.from_numpy(labels)


@functools.cache
def coverings(seed: int, covered: bool) -> tuple[Tensor, Tensor]:
    """64 training pictures, four times each, packed for two networks."""
    pictures, labels = lesions(64, seed, agrees=True)
    if not covered:
        return pictures.repeat(4, 2, 1, 1), labels.repeat(4)
    pack = RandPackVersionsd("image", [RandCoverSquares(0.8), RandCoverSurroundings(0.8)])
    pack.set_random_state(seed)
    packed = [pack({"image": picture})["image"] for _ in range(4) for picture in pictures]
    return torch.stack(packed), labels.repeat(4)


def fitted(seed: int, covered: bool, rate: float, steps: int) -> nn.Module:
    torch.manual_seed(seed)
    network = build_masked_ensemble("resnet10", size="slim", hidden=16).train()
    pictures, labels = coverings(seed, covered)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate)
    for _ in range(steps):
        part = torch.randperm(len(labels), generator=generator)[:16]
        _, first, second = network(pictures[part])
        loss = nn.functional.cross_entropy(first, labels[part]) + nn.functional.cross_entropy(second, labels[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@torch.inference_mode()
def measure(network: nn.Module, seed: int, agrees: bool) -> tuple[float, float]:
    """Accuracy and cross-entropy on 128 other pictures."""
    pictures, labels = lesions(128, 1000 + seed, agrees)
    answers = network(pictures)
    return float((answers.argmax(1) == labels).float().mean()), float(nn.functional.nll_loss(answers, labels))


def against_the_mark(seed: int, covered: bool, rates: tuple[float, ...] = (1e-3, 3e-3), steps: int = 100) -> float:
    """Accuracy where the mark lies, with the rate that is best where it says the truth."""
    networks = [fitted(seed, covered, rate, steps) for rate in rates]
    best = min(networks, key=lambda network: measure(network, seed, True)[1])
    return measure(best, seed, False)[0]


@pytest.mark.slow
def test_covering_cuts_the_reliance_on_a_mark() -> None:
    on, off = (against_the_mark(0, covered, rates=(1e-3,)) for covered in (True, False))
    print(f"accuracy against the mark: {on:.2f} covered, {off:.2f} not")
    assert on > off + 0.1


@pytest.mark.slow
def test_covering_cuts_the_reliance_on_a_mark_in_five_seeds() -> None:
    pairs = [(against_the_mark(seed, True), against_the_mark(seed, False)) for seed in range(5)]
    print(f"accuracy against the mark, covered and not: {pairs}")
    gains = np.array([on - off for on, off in pairs])
    assert gains.mean() - 2.78 * gains.std(ddof=1) / np.sqrt(5) > 0
