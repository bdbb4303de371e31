"""What is special about this bundle: it decides on the lineage of a blood cell first, by a tree of class names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from medresnet3d.bundle.load import load_config, load_network
from medresnet3d.bundle.registry import find_bundle, read_metadata
from medresnet3d.data import items
from medresnet3d.data.phantoms.cells import LINEAGES, SIGNS, write_pbc
from medresnet3d.data.preparation.prepare import prepare
from medresnet3d.engines import load_checkpoint
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.workflows.predictor import Predictor
from medresnet3d.workflows.train import train
from tests.bundles.as_configured import accuracy, learn, network_of, parameter_count, prepared

BUNDLE = find_bundle("leukocyte_hierarchical_resnet")
TINY = {"arch": "resnet10", "image_size": 32, "max_epochs": 2, "batch_size": 8, "described": 0}


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pbc(tmp_path_factory.mktemp("cells"), 48, size=(32, 32))


@pytest.fixture(scope="module")
def run(cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training on PBC's sub-types: other classes than the bundle's own."""
    folder = tmp_path_factory.mktemp("run")
    manifest = prepare("pbc", cells.parent, folder / "subtypes.json", task="subtype").path
    return train(BUNDLE, manifest, folder / "run", set=TINY, device="cpu")


def test_the_default_tree_has_the_kinds_of_pbc_and_their_lineages() -> None:
    parser = load_config(BUNDLE, ("inference.json",))
    names, groups = parser.get_parsed_content("class_names"), parser.get_parsed_content("groups")
    assert names == sorted(SIGNS) == list(read_metadata(BUNDLE)["labels"].values())
    found = {frozenset(name for name, own in zip(names, groups, strict=True) if own == group) for group in set(groups)}
    assert found == {frozenset(kinds) for kinds in LINEAGES}


@pytest.mark.parametrize(("size", "parameters"), [("slim", 703_644), ("paper", 23_532_620)])
def test_the_published_size_is_one_id_away(size: str, parameters: int) -> None:
    network = network_of(BUNDLE, size=size)
    assert parameter_count(network) == parameters


def test_a_training_on_other_kinds_takes_their_names_and_lineages(run: Path, cells: Path) -> None:
    labels = list(read_metadata(run / "bundle")["labels"].values())
    assert len(labels) == 11 and {"myelocyte", "band neutrophil"} < set(labels)
    network = load_network(run)
    own = {labels[index] for index in range(11) if network.classifier.group[index] == network.classifier.group[0]}
    assert own == {
        *("basophil", "eosinophil", "metamyelocyte", "myelocyte", "promyelocyte"),
        *("band neutrophil", "segmented neutrophil"),
    }
    probabilities = Predictor(run, device="cpu")(items(cells, "all")[0]["image"]).probabilities
    assert list(probabilities) == labels and sum(probabilities.values()) == pytest.approx(1, abs=1e-5)


def test_the_children_of_an_answer_add_up_to_the_lineage(run: Path, cells: Path) -> None:
    network = load_network(run)
    picture = items(cells, "all")[0]["image"]
    predictor = Predictor(run, device="cpu", flips=[], precision="fp32")
    probabilities = torch.tensor(list(predictor(picture).probabilities.values()))
    image = prepared(run / "bundle", picture)
    with torch.inference_mode():
        coarse = network.classifier.coarse(network.forward_features(image)).softmax(1)[0]
    sums = torch.zeros(len(coarse)).index_add(0, network.classifier.group, probabilities)
    torch.testing.assert_close(sums, coarse, atol=1e-5, rtol=0)


def test_the_best_state_is_chosen_by_mean_class_accuracy_and_the_distance_in_the_tree_is_logged(run: Path) -> None:
    last = load_checkpoint(run / "checkpoints" / "last.pt")
    history = last["session"]["history"]
    assert all(0 <= row["val_tree_distance"] <= 2 for row in history)
    best = max(history, key=lambda row: row["val_mean_class_accuracy"])
    assert last["session"]["best_epoch"] == best["epoch"]


def test_classes_in_another_order_or_without_a_lineage_are_refused(cells: Path, tmp_path: Path) -> None:
    names = sorted(SIGNS, reverse=True)
    overrides: dict[str, Any] = {**TINY, "data": str(cells), "device": "cpu", "class_names": names}
    with pytest.raises(DataError, match="its classes are basophil, eosinophil"):
        _parsed(overrides, "train#dataset")
    with pytest.raises(ConfigError, match=r"nothing of the class.* blast"):
        _parsed({**overrides, "class_names": [*names, "blast"]}, "groups")


def _parsed(overrides: dict[str, Any], key: str) -> Any:
    """Part of a training configuration; the error that made it fail, where it does."""
    try:
        return load_config(BUNDLE, ("train.json",), overrides).get_parsed_content(key)
    except RuntimeError as error:
        raise error.__cause__ or error from None


def test_without_lineage_weight_the_loss_is_that_of_the_class() -> None:
    logits, target = torch.randn(6, 8), torch.tensor([0, 3, 5, 7, 7, 1])
    flat = _parsed({"lineage_weight": 0.0}, "loss")
    torch.testing.assert_close(
        flat(logits, target), torch.nn.functional.cross_entropy(logits, target, label_smoothing=0.1)
    )
    focal = _parsed({"loss": {"name": "focal", "gamma": 2.0}}, "loss")
    assert type(focal.loss).__name__ == "FocalLoss" and focal(logits, target) > focal.loss(logits, target)


def test_augmentation_varies_colours_and_noise_in_training_alone(cells: Path) -> None:
    overrides = {**TINY, "data": str(cells), "device": "cpu", "augmentation": "light", "jitter": 0.0, "raised": 0.3}
    data = _parsed({**overrides, "noise": 0.0}, "train#dataset")
    plain = _parsed(overrides, "validate#preprocessing")(data.data[0])["image"].as_tensor()
    shifts = []
    for epoch in range(12):
        data.set_epoch(epoch)
        shifts.append((data[0]["image"].mean((1, 2)) - plain.mean((1, 2))).abs() > 0.05)
    raised = torch.stack(shifts)
    assert raised.any(0).all() and (raised.sum(1) <= 1).all() and not raised.any(1).all()
    unvaried = _parsed({**overrides, "augmentation": "none"}, "train#dataset")[0]["image"]
    torch.testing.assert_close(unvaried, plain)


def test_what_is_measured_answers_too(cells: Path, tmp_path: Path) -> None:
    network = load_network(train(BUNDLE, cells, tmp_path / "run", set=TINY | {"described": 0.6}, device="cpu"))
    assert bool(network.svm.ready) and network.share == 0.6
    assert int((network.svm.coefficients.abs().sum(0) > 0).sum()) > 8


@pytest.mark.slow
def test_learns_kinds_of_cells_from_phantoms(tmp_path: Path) -> None:
    manifest = write_pbc(tmp_path / "cells", 480, seed=3, size=(48, 48), difficulty=0.2)
    others = items(write_pbc(tmp_path / "others", 160, seed=4, size=(48, 48), difficulty=0.2), "all")
    network, images, labels = learn(BUNDLE, manifest, tmp_path / "run", others, image_size=48, max_epochs=25)
    assert accuracy(network, images, labels) > 0.85
