"""What is special about this bundle: auxiliary classifiers in training, and a chain of data sets with other classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medresnet3d.bundle.load import load_config, load_network
from medresnet3d.bundle.registry import find_bundle, read_metadata
from medresnet3d.data import items
from medresnet3d.data.phantoms.cells import I3A, ICPR2012, write_i3a, write_icpr2012
from medresnet3d.errors import DataError
from medresnet3d.transforms.microscopy import RotationGrid
from medresnet3d.workflows.evaluate import evaluate
from medresnet3d.workflows.train import train
from tests.bundles.as_configured import network_of, parameter_count
from tests.bundles.hep2_toy import transfer

BUNDLE = find_bundle("hep2_deep_supervision_resnet")
TINY = {"arch": "resnet10", "image_size": 32, "max_epochs": 1, "batch_size": 8}


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_icpr2012(tmp_path_factory.mktemp("icpr2012"), 48, 12, size=32)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_i3a(tmp_path_factory.mktemp("i3a"), 30, size=32, cells_per_specimen=1)


@pytest.fixture(scope="module")
def first(contest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first link of the chain, trained on ICPR 2012."""
    return train(BUNDLE, contest, tmp_path_factory.mktemp("first") / "run", set=TINY, device="cpu")


def parsed(overrides: dict[str, Any], key: str) -> Any:
    """Part of a training configuration; the error that made it fail, where it does."""
    try:
        return load_config(BUNDLE, ("train.json",), {**TINY, "device": "cpu", **overrides}).get_parsed_content(key)
    except RuntimeError as error:
        raise error.__cause__ or error from None


def test_the_classes_are_the_six_of_i3a() -> None:
    config = load_config(BUNDLE, ("inference.json",))
    assert config.get_parsed_content("class_names") == list(I3A) == list(read_metadata(BUNDLE)["labels"].values())


@pytest.mark.parametrize(("size", "parameters", "auxiliary"), [("slim", 702_870, 588), ("paper", 23_520_326, 9_228)])
def test_the_published_size_is_one_id_away(size: str, parameters: int, auxiliary: int) -> None:
    network = network_of(BUNDLE, size=size)
    assert parameter_count(network.network) == parameters
    assert parameter_count(network.auxiliary) == auxiliary


def test_the_loss_is_the_main_one_plus_the_weighted_auxiliary_ones() -> None:
    main, *auxiliary = outputs = [torch.randn(4, 6) for _ in range(3)]
    target, loss = torch.tensor([0, 5, 2, 2]), parsed({}, "loss").train()
    entropy = nn.functional.cross_entropy
    expected = entropy(main, target) + 0.3 * sum(entropy(each, target) for each in auxiliary)
    for _ in range(3):  # the weight does not fade
        torch.testing.assert_close(loss(outputs, target), expected)


def test_auxiliary_classifiers_teach_the_layers_in_front_of_them_alone() -> None:
    network = parsed({}, "network_def").train()
    _, *auxiliary = network(torch.rand(4, 3, 32, 32))
    sum(nn.functional.cross_entropy(each, torch.tensor([0, 5, 2, 2])) for each in auxiliary).backward()
    taught = {name.split(".")[0] for name, each in network.network.named_parameters() if each.grad is not None}
    assert taught == {"conv1", "bn1", "layer1", "layer2", "layer3"}
    assert network.network.conv1.weight.grad.abs().sum() > 0


def test_the_chain_keeps_the_trunk_and_starts_the_classifiers_anew(first: Path, contest: Path, cells: Path) -> None:
    assert list(read_metadata(first / "bundle")["labels"].values()) == list(ICPR2012)
    before = load_network(first).state_dict()
    torch.manual_seed(7)
    second = parsed({"pretrained": str(first), "data": str(cells)}, "initial_network").state_dict()
    heads = {name for name in second if name.startswith(("network.classifier", "auxiliary"))}
    assert all(second[name].shape == before[name].shape for name in heads), (
        "six classes each: only names tell them apart"
    )
    assert all(torch.equal(second[name], before[name]) for name in second if name not in heads)
    assert not any(torch.equal(second[name], before[name]) for name in heads if name.endswith("weight"))
    same = parsed({"pretrained": str(first), "class_names": list(ICPR2012)}, "initial_network").state_dict()
    assert all(torch.equal(same[name], before[name]) for name in heads)


def test_the_second_link_has_the_classes_of_its_own_data(first: Path, cells: Path, tmp_path: Path) -> None:
    run = train(BUNDLE, cells, tmp_path / "second", set={**TINY, "pretrained": str(first)}, device="cpu")
    assert list(read_metadata(run / "bundle")["labels"].values()) == list(I3A)


def test_the_label_maps_of_both_sets_are_not_mixed(first: Path, contest: Path, cells: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="its classes are homogeneous, coarse_speckled"):
        parsed({"data": str(contest)}, "train#dataset")
    with pytest.raises(DataError, match="are not those of the bundle"):
        evaluate(first, cells, tmp_path / "evaluation", device="cpu")


def test_weak_green_and_strong_grey_cells_look_alike(contest: Path) -> None:
    transform = parsed({}, "validate#preprocessing")
    by_light = {
        light: [transform(item)["image"] for item in items(contest, "all") if item["intensity"] == light]
        for light in ("positive", "intermediate")
    }
    for images in by_light.values():
        spans = np.array([float(image.max() - image.min()) for image in images])
        assert np.ptp(spans) < 0.5, "each cell spans black to white, but for the smoothing of the resize"
        assert all(torch.allclose(image[0] * 0.229 + 0.485, image[2] * 0.225 + 0.406, atol=1e-5) for image in images)


def test_training_turns_cells_by_multiples_of_18_degrees(cells: Path) -> None:
    overrides = {"data": str(cells), "jitter": 0.0}
    data = parsed(overrides, "train#dataset")
    plain = parsed(overrides, "validate#preprocessing")(data.data[0])["image"].as_tensor()
    black = plain.amin((1, 2), keepdim=True)
    turns = RotationGrid(padding_mode="zeros")(plain - black) + black
    square = torch.stack([torch.rot90(each, quarter, (1, 2)) for each in turns for quarter in range(4)])
    grid = torch.cat([square, square.flip(2)])
    for epoch in range(6):
        data.set_epoch(epoch)
        assert (grid - data[0]["image"]).abs().mean((1, 2, 3)).min() < 0.02


@pytest.mark.slow
def test_transfer_beats_a_random_start_with_twenty_cells_a_class() -> None:
    """Pretrained on phantoms of ICPR 2012, both arms trained on I3A's with equal steps and a choice of rates each."""
    found = transfer(seeds=5)
    gain = found["transfer"] - found["random start"]
    half = 2.776 * gain.std(ddof=1) / np.sqrt(len(gain))
    print({name: np.round(values, 3) for name, values in found.items()}, f"gain {gain.mean():.3f} +- {half:.3f}")
    assert gain.mean() - half > 0
