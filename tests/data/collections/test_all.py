"""Every data set through the same suite: mimic, prepare, check, load by MONAI, train a step."""

from __future__ import annotations

import inspect
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch

from medresnet3d.data import check_manifest
from medresnet3d.data.manifest import items, load_manifest
from medresnet3d.data.preparation import prepare as preparation
from medresnet3d.data.preparation.cards import Card, card_names, cards_root, find_card
from medresnet3d.data.preparation.prepare import adapter_options, mimic, prepare
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.transforms.load import LoadVolumed

MIMIC_BYTES = 1_000_000
FOLDS = 2
NAMES = card_names()
TASKS = [(name, task.name) for name in NAMES for task in find_card(name).tasks]

MimicOf = Callable[[str], Path]


@pytest.fixture(scope="module")
def prepared(mimic_of: MimicOf, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """The manifest of a mimic for one task, made once."""
    there: dict[tuple[str, str], Path] = {}

    def make(name: str, task: str) -> Path:
        if (name, task) not in there:
            output = tmp_path_factory.mktemp("manifests") / "m.json"
            there[name, task] = prepare(name, mimic_of(name), output, task=task, folds=FOLDS).path
        return there[name, task]

    return make


def _entries(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    raw = json.loads(path.read_text())
    for section in ("training", "validation", "test"):
        yield from ((section, entry) for entry in raw.get(section, []))


@pytest.mark.parametrize("name", NAMES)
def test_card_has_the_form_of_a_card(name: str) -> None:
    schema = json.loads((cards_root() / "card.schema.json").read_text())
    jsonschema.validate(json.loads((cards_root() / f"{name}.json").read_text()), schema)
    card = find_card(name)
    assert all(task.labels[0] == "background" for task in card.tasks if task.kind == "segmentation" and task.labels)
    assert not any(task.labels for task in card.tasks if task.kind == "regression")


@pytest.mark.parametrize("name", NAMES)
def test_card_and_adapter_name_the_same_options(name: str) -> None:
    card = find_card(name)
    options = adapter_options(card)
    assert set(card.options) == set(options)
    assert all(option.default is not inspect.Parameter.empty for option in options.values())


@pytest.mark.parametrize("name", NAMES)
def test_mimic_is_small_and_the_same_for_the_same_seed(name: str, mimic_of: MimicOf, tmp_path: Path) -> None:
    first, again = mimic_of(name), mimic(name, tmp_path / "again")
    files = {path.relative_to(first): path.read_bytes() for path in first.rglob("*") if path.is_file()}
    assert 0 < sum(map(len, files.values())) < MIMIC_BYTES
    assert files.keys() == {path.relative_to(again) for path in again.rglob("*") if path.is_file()}
    stamped = (".xlsx", ".npz", ".gz")  # hold the time of writing
    assert all((again / path).read_bytes() == content for path, content in files.items() if path.suffix not in stamped)


@pytest.mark.parametrize(("name", "task"), TASKS)
def test_manifest_is_sound_and_uses_every_class(name: str, task: str, prepared: Callable[[str, str], Path]) -> None:
    path = prepared(name, task)
    errors = [finding for finding in check_manifest(path, deep=True) if finding.level == "error"]
    assert errors == []
    manifest = load_manifest(path)
    if manifest.task in ("classification", "detection"):
        counts = json.loads(path.read_text())["counts"]
        used = {label for sizes in counts.values() for label, count in sizes["classes"].items() if count}
        assert used == set(manifest.labels)


@pytest.mark.parametrize(("name", "task"), TASKS)
def test_no_group_is_on_two_sides(name: str, task: str, prepared: Callable[[str, str], Path]) -> None:
    sides: dict[str, set[tuple[str, int | None]]] = {}
    for section, entry in _entries(prepared(name, task)):
        assert entry["patient"]
        sides.setdefault(entry["patient"], set()).add((section, entry.get("fold")))
    assert all(len(side) == 1 for side in sides.values())


@pytest.mark.parametrize(("name", "task"), TASKS)
def test_there_is_something_to_validate_on(name: str, task: str, prepared: Callable[[str, str], Path]) -> None:
    path = prepared(name, task)
    sections = load_manifest(path).sections
    if "training" not in sections:
        assert sections["test"]
        return
    training, validation = items(path, "training"), items(path, "validation")
    assert training and validation
    assert not {item["patient"] for item in training} & {item["patient"] for item in validation}


@pytest.mark.parametrize(("name", "task"), TASKS)
def test_report_accounts_for_every_entry(name: str, task: str, mimic_of: MimicOf, tmp_path: Path) -> None:
    result = prepare(name, mimic_of(name), tmp_path / "m.json", task=task, folds=FOLDS)
    entries = list(_entries(result.path))
    for section, sizes in result.report.sections.items():
        there = [entry for side, entry in entries if side == section]
        assert sizes["entries"] == len(there)
        assert sizes["groups"] == len({entry["patient"] for entry in there})
    assert all(dropped.count >= len(dropped.examples) for dropped in result.report.dropped.values())


@pytest.mark.parametrize("name", NAMES)
def test_same_folder_and_seed_give_the_same_manifest(name: str, mimic_of: MimicOf, tmp_path: Path) -> None:
    texts = []
    for run in range(2):
        texts.append(prepare(name, mimic_of(name), tmp_path / "m.json", folds=FOLDS).path.read_text())
        (tmp_path / "m.json").rename(tmp_path / f"{run}.json")
    assert texts[0] == texts[1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", ["above", "below"])
def test_a_folder_above_or_below_the_official_one_does_as_well(
    name: str, place: str, mimic_of: MimicOf, tmp_path: Path
) -> None:
    official = mimic_of(name)
    root = official.parent if place == "above" else _only_folder(official)
    if root is None:
        pytest.skip("the files lie in the official folder itself")
    expected = [entry for _, entry in _entries(prepare(name, official, tmp_path / "a.json", folds=FOLDS).path)]
    found = [entry for _, entry in _entries(prepare(name, root, tmp_path / "b.json", folds=FOLDS).path)]
    assert [entry.get("label") for entry in found] == [entry.get("label") for entry in expected]
    if find_card(name).access != "own":
        assert [entry["patient"] for entry in found] == [entry["patient"] for entry in expected]


def _only_folder(folder: Path) -> Path | None:
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else None


@pytest.mark.parametrize(("name", "task"), TASKS)
def test_a_sample_loads_and_a_tiny_network_takes_a_step(
    name: str, task: str, prepared: Callable[[str, str], Path]
) -> None:
    path = prepared(name, task)
    manifest = load_manifest(path)
    section = "training" if "training" in manifest.sections else "test"
    item = items(path, section)[0]
    classes = len(manifest.labels) if manifest.task == "segmentation" else None
    labels = ("label",) if manifest.task == "segmentation" else ()
    loaded = LoadVolumed("image", label_keys=labels, num_classes=classes)(item)
    image = loaded["image"].as_tensor()[None]
    assert image.ndim == 5 and torch.isfinite(image).all()
    torch.manual_seed(0)
    network, loss = _step(manifest.task, image, loaded, len(manifest.labels))
    before = [parameter.detach().clone() for parameter in network.parameters()]
    loss.backward()
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    assert torch.isfinite(loss)
    assert any(not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))


def _step(task: str, image: torch.Tensor, item: dict[str, Any], classes: int) -> tuple[torch.nn.Module, torch.Tensor]:
    """A network of one convolution and its loss on one sample."""
    scaled = image / image.abs().amax().clamp(min=1)
    outputs = {"regression": 1, "detection": 1}.get(task, classes)
    network = torch.nn.Conv3d(image.shape[1], outputs, 1)
    output = network(scaled)
    if task == "segmentation":
        return network, torch.nn.functional.cross_entropy(output, item["label"].as_tensor().long())
    pooled = output.mean((2, 3, 4))
    if task == "classification":
        return network, torch.nn.functional.cross_entropy(pooled, torch.tensor([item["label"]]))
    if task == "regression":
        return network, torch.nn.functional.mse_loss(pooled, torch.tensor([[float(item["label"])]]))
    inside = torch.zeros_like(output)
    for box in item["boxes"]:
        low, high = np.array(box).reshape(2, -1)
        assert (low < high).all()
        if len(low) == 3:
            low, high = _in_voxels(low, high, item["image"].affine)
        low, high = low.astype(int), high.astype(int)
        assert (low < high).all() and (high <= image.shape[2 : 2 + len(high)]).all()
        inside[(0, 0, *map(slice, low, high))] = 1
    return network, torch.nn.functional.binary_cross_entropy_with_logits(output, inside)


def _in_voxels(low: np.ndarray, high: np.ndarray, affine: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The voxels that a box in mm touches."""
    corners = np.array([[*corner, 1.0] for corner in itertools.product(*zip(low, high, strict=True))])
    index = (corners @ np.linalg.inv(affine.numpy()).T)[:, :3] + 0.5  # voxel 0 reaches from 0 to 1
    return np.floor(np.clip(index.min(0), 0, None)), np.ceil(index.max(0))


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_folder_is_told_with_what_it_holds(name: str, tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "beach.heic").write_text("sand")
    with pytest.raises(DataError, match=r"holiday/ \(files below: 1 \.heic\)"):
        prepare(name, tmp_path, tmp_path / "m.json")
    with pytest.raises(DataError, match="no such folder"):
        prepare(name, tmp_path / "nowhere", tmp_path / "m.json")


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_task_or_option_names_the_nearest(name: str, tmp_path: Path) -> None:
    card: Card = find_card(name)
    with pytest.raises(ConfigError, match=f"did you mean '{card.tasks[0].name}'"):
        preparation.prepare(name, tmp_path, tmp_path / "m.json", task=card.tasks[0].name + "s")
    with pytest.raises(ConfigError, match="there is no option 'colour'"):
        preparation.prepare(name, tmp_path, tmp_path / "m.json", options={"colour": "red"})
