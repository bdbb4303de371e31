"""What every bundle folder must hold, read without running it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from medresnet3d.bundle.inspect import inspect_bundle
from medresnet3d.bundle.registry import bundles_root, list_bundles

FILES = [
    "LICENSE",
    "configs/metadata.json",
    "configs/train.json",
    "configs/evaluate.json",
    "configs/inference.json",
    "configs/multi_gpu_train.json",
    "configs/logging.conf",
    "docs/README.md",
    "docs/data_license.txt",
]
MEGABYTE = 1_000_000
BUNDLES = [pytest.param(b.path, id=b.name) for b in list_bundles()]


@pytest.mark.parametrize("root", BUNDLES)
def test_every_file_of_the_contract_is_there(root: Path):
    missing = [name for name in FILES if not (root / name).is_file()]
    assert not missing


@pytest.mark.parametrize("root", BUNDLES)
def test_no_finding_by_inspection(root: Path):
    assert [str(finding) for finding in inspect_bundle(root).findings] == []


@pytest.mark.parametrize("root", BUNDLES)
def test_configs_import_nothing_and_use_no_macro(root: Path):
    for config in (root / "configs").glob("*.json"):
        text = config.read_text()
        assert "$import" not in text, config
        assert '"%' not in text, config
        assert "/workspace" not in text, config
    assert not (root / "scripts").exists()


@pytest.mark.parametrize("root", BUNDLES)
def test_train_and_inference_share_the_ids_that_shape_network_and_input(root: Path):
    """What both have is the same, and what network and preprocessing are made of both have."""
    train, inference = (json.loads((root / f"configs/{name}.json").read_text()) for name in ("train", "inference"))
    shared = (train.keys() & inference.keys()) - {"output_dir", "network", "initialize", "run"}
    assert {key: train[key] for key in shared} == {key: inference[key] for key in shared}
    assert {"precision", *made_of(inference, "network_def")} <= shared
    task, validate = json.loads((root / "configs/metadata.json").read_text())["task"], train["validate"]
    if task != "segmentation":  # whose inference answers whole images, by windows
        assert validate["inferer"] == inference["inferer"]
    if task in ("classification", "regression"):
        assert validate["preprocessing"] == inference["preprocessing"]
        assert made_of(inference, "preprocessing") - {"preprocessing"} <= shared


def made_of(config: dict[str, Any], key: str) -> set[str]:
    """An id of a raw configuration and all top-level ids that it refers to, directly or through others."""
    found, waiting = set(), [key]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += re.findall(r"@(\w+)", json.dumps(config[name]))
    return found


@pytest.mark.parametrize("root", BUNDLES)
def test_inferred_values_are_ids_with_a_reason(root: Path):
    metadata = json.loads((root / "configs/metadata.json").read_text())
    ids = {key for name in ("train", "inference") for key in json.loads((root / f"configs/{name}.json").read_text())}
    assert metadata["inferred"]
    for key, reason in metadata["inferred"].items():
        assert key in ids, f"{key} is listed as inferred but is no id of train.json or inference.json"
        assert len(reason) > 10


@pytest.mark.parametrize("root", BUNDLES)
def test_names_from_elsewhere_are_of_classes_of_the_bundle_and_not_names_of_its_own(root: Path):
    metadata = json.loads((root / "configs/metadata.json").read_text())
    elsewhere = metadata.get("names_elsewhere", {})
    own = list(metadata.get("labels", {}).values())
    assert elsewhere.keys() <= set(own)
    for names in elsewhere.values():
        assert names and len({name.casefold() for name in names} - {name.casefold() for name in own}) == len(names)


@pytest.mark.parametrize("root", BUNDLES)
def test_model_card_says_what_it_must(root: Path):
    card = (root / "docs/README.md").read_text()
    for phrase in ("Not for clinical use", "never tested", "## Data", "## Licence"):
        assert phrase.lower() in card.lower(), phrase


@pytest.mark.parametrize("root", BUNDLES)
def test_weights_are_small(root: Path):
    weights = root / "models/model.pt"
    assert not weights.exists() or weights.stat().st_size <= 8 * MEGABYTE


def test_weights_of_all_bundles_together_are_small():
    assert sum(path.stat().st_size for path in bundles_root().glob("*/models/*")) <= 80 * MEGABYTE


@pytest.mark.parametrize("root", BUNDLES)
def test_what_a_training_starts_from_is_no_matter_to_evaluation_and_the_same_on_several_devices(root: Path):
    """Every classifier and regressor has the ids; evaluation must not need the file, and all devices start from it."""
    train, evaluate, several = (
        json.loads((root / f"configs/{name}.json").read_text()) for name in ("train", "evaluate", "multi_gpu_train")
    )
    task = json.loads((root / "configs/metadata.json").read_text())["task"]
    if "pretrained" not in train:
        assert task not in ("classification", "regression"), "pretrained and freeze_until are ids of every classifier"
        assert "network" not in evaluate
        return
    assert train["freeze_until"] == "none"
    start = train["initial_network"]
    assert start["_target_"] == "medresnet3d.networks.start_from"
    assert [start[key] for key in ("network", "pretrained", "freeze_until")] == [
        "@network_def",
        "@pretrained",
        "@freeze_until",
    ]
    assert train["network"] == "$@initial_network.to(@device)"
    assert evaluate["network"] == "$@network_def.to(@device)"
    assert several["network"]["network"] == "@initial_network"


PICTURE_CHAINS = ("picture_pipelines.picture_training", "mammogram_pipelines.mammogram_training")


def picture_classifiers() -> list[Any]:
    """The bundles that train a classifier through one of the chains of pictures."""
    found = []
    for bundle in list_bundles():
        preprocessing = json.loads((bundle.path / "configs/train.json").read_text())["train"]["preprocessing"]
        target = preprocessing["_target_"] if isinstance(preprocessing, dict) else ""
        if target.removeprefix("medresnet3d.transforms.") in PICTURE_CHAINS:
            found.append(pytest.param(bundle.path, id=bundle.name))
    return found


@pytest.mark.parametrize("root", picture_classifiers())
def test_mixing_averaging_and_tint_are_ids_of_every_classifier_of_pictures(root: Path):
    """A tint is for pictures with colours; films, MRI and grey cells have none."""
    train, metadata = (json.loads((root / f"configs/{name}.json").read_text()) for name in ("train", "metadata"))
    assert train["mixing"] == {"_target_": "medresnet3d.engines.mixing.Mixing", "name": "none"}
    assert train["average_weights"] is None or 0 <= train["average_weights"] < 1
    trainer, preprocessing = train["train"]["trainer"], train["train"]["preprocessing"]
    assert (trainer["mixing"], trainer["average_weights"]) == ("@mixing", "@average_weights")
    coloured = metadata["network_data_format"]["inputs"]["image"]["channel_def"]["0"] == "red"
    assert ("tint" in train) == coloured
    assert not coloured or preprocessing["tint"] == "@tint"
    reasons = {"mixing", "average_weights"} | ({"tint"} if coloured else set())
    assert reasons <= metadata["inferred"].keys()
    assert coloured or "`tint`" in str(metadata["inferred"]), "say why there is none"


@pytest.mark.parametrize("root", [pytest.param(b.path, id=b.name) for b in list_bundles() if b.task == "detection"])
def test_a_detector_gives_one_map_validates_by_the_cpm_and_leaves_tables(root: Path):
    train, inference, metadata = (
        json.loads((root / f"configs/{name}.json").read_text()) for name in ("train", "inference", "metadata")
    )
    assert metadata["network_data_format"]["outputs"]["pred"]["num_channels"] == 1
    assert list(metadata["labels"]) == ["0"]
    score = train["validate"]["key_metric"]["cpm"]
    assert score["_target_"] == "medresnet3d.metrics.DetectionScore"
    assert "rates" not in score, "the CPM is that of LUNA16"
    assert train["validate"]["postprocessing"]["transforms"] == inference["answer"]["transforms"]
    answer, save = inference["postprocessing"]["transforms"]
    assert answer == "@answer"
    assert save["_target_"] == "medresnet3d.transforms.detection.SaveDetectionsd"
