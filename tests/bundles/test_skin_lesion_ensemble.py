"""What is special about this bundle: four networks that learn apart, and a fusion weighed on validation pictures."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medresnet3d.bundle.load import load_config, load_network
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data import items
from medresnet3d.data.phantoms.dermoscopy import write_isic2017
from medresnet3d.data.preparation.prepare import mimic, prepare
from medresnet3d.engines.features import extract
from medresnet3d.networks.ensembles import RULES, fuse, member_accuracies
from medresnet3d.transforms.clinical_evidence import evidence_for, fit_evidence
from medresnet3d.workflows.evaluate import evaluate
from medresnet3d.workflows.predictor import Predictor
from medresnet3d.workflows.train import train
from tests.bundles.as_configured import accuracy, learn, network_of, parameter_count, prepared

BUNDLE = find_bundle("skin_lesion_ensemble")
TINY = {"archs": ["resnet10", "googlenet"], "image_size": 32, "max_epochs": 2, "batch_size": 6, "described": 0}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_isic2017(tmp_path_factory.mktemp("lesions"), 18, 9, 6, size=(32, 40), difficulty=0.2)


@pytest.fixture(scope="module")
def run(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(BUNDLE, manifest, tmp_path_factory.mktemp("run") / "run", set=TINY, device="cpu")


@pytest.mark.parametrize(("size", "parameters"), [("slim", 2_983_508), ("paper", 220_461_948)])
def test_the_published_size_is_one_id_away(size: str, parameters: int) -> None:
    network = network_of(BUNDLE, size=size)
    assert parameter_count(network) == parameters
    names = [type(member).__name__ for member in network.classifier.members]
    assert names == ["AlexNet", "VGG", "GoogLeNet", "ResNetClassifier"]


def test_the_weights_of_the_fusion_are_accuracies_on_validation_pictures(run: Path, manifest: Path) -> None:
    network = load_network(run)
    overrides: dict[str, Any] = {**TINY, "data": str(manifest), "device": "cpu"}
    data = load_config(BUNDLE, ("train.json",), overrides).get_parsed_content("validate#dataset")
    assert [item["patient"] for item in data.data] == [item["patient"] for item in items(manifest, "validation")]
    cases = extract(network, data, lambda images: network.opinions(images).transpose(0, 1).flatten(1))
    opinions = cases.features.unflatten(1, (2, 3)).transpose(0, 1)
    torch.testing.assert_close(network.weights, member_accuracies(opinions, torch.tensor(cases.labels)))
    assert not torch.equal(network.weights, torch.ones(2))


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_is_one_id_of_a_trained_ensemble(run: Path, manifest: Path, rule: str) -> None:
    picture = items(manifest, "test")[0]["image"]
    prediction = Predictor(run, device="cpu", rule=rule, flips=[], precision="fp32")(picture)
    network = load_network(run)
    image = prepared(run / "bundle", picture)
    with torch.inference_mode():
        expected = fuse(network.opinions(image), rule, network.weights).exp()[0]
    np.testing.assert_allclose(list(prediction.probabilities.values()), expected, atol=1e-5)


def test_age_and_place_weigh_with_the_picture_where_they_are_known(manifest: Path, tmp_path: Path) -> None:
    content = json.loads(manifest.read_text(encoding="utf-8"))
    names = content["labels"]
    for entries in (content["training"], content["test"]):
        for number, entry in enumerate(entries):
            entry |= {"site": ["face", "back"][entry["label"] == names[0]], "age": str(20 + number), "sex": "unknown"}
    content["root"] = str(manifest.parent)
    told = tmp_path / "told.json"
    told.write_text(json.dumps(content), encoding="utf-8")
    run = train(BUNDLE, told, tmp_path / "run", set=TINY | {"max_epochs": 1}, device="cpu")
    evidence = load_config(run / "bundle", ("inference.json",)).get_parsed_content("clinical")
    assert evidence == fit_evidence(items(told, "training"), ["age", "sex", "site"], len(names))
    assert sorted(evidence) == ["age", "site"]
    case = items(told, "test")[0]
    alone = Predictor(run, device="cpu", precision="fp32")(case["image"])
    both = Predictor(run, device="cpu", precision="fp32")(case)
    expected = np.array(list(alone.probabilities.values())) * np.exp(evidence_for(case, evidence, len(names)))
    np.testing.assert_allclose(list(both.probabilities.values()), expected / expected.sum(), rtol=1e-4)
    assert both.details["clinical"] == {"age": case["age"], "site": case["site"]}
    assert both.details["image_alone"]["label"] == alone.label
    assert alone.details["clinical"] == {"age": "", "site": ""}
    off = train(BUNDLE, told, tmp_path / "off", set=TINY | {"max_epochs": 1, "clinical_fields": None}, device="cpu")
    assert load_config(off / "bundle", ("inference.json",)).get("clinical") is None


def test_the_answer_is_that_of_the_ensemble_and_of_what_is_measured(run: Path, manifest: Path, tmp_path: Path) -> None:
    both = train(BUNDLE, manifest, tmp_path / "run", set=TINY | {"described": 0.6}, device="cpu")
    network, alone = load_network(both), load_network(run)
    assert bool(network.svm.ready)
    for name, tensor in alone.members.state_dict().items():  # the ensemble learns as by itself
        torch.testing.assert_close(network.classifier.members.state_dict()[name], tensor, atol=1e-5, rtol=1e-4)
    picture = items(manifest, "test")[0]["image"]
    image = prepared(both / "bundle", picture)
    assert image.shape[2:] == (128, 128)
    with torch.inference_mode():
        measured = network.svm(network.standardised(network.measurements(image)))
        pooled = 0.4 * network.classifier(network.seen(image)) + 0.6 * measured
        torch.testing.assert_close(network(image), pooled.log_softmax(1), atol=1e-3, rtol=1e-3)


@pytest.mark.slow
def test_learns_lesions_from_phantoms(tmp_path: Path) -> None:
    manifest = write_isic2017(tmp_path / "lesions", 150, 45, 90, seed=3, size=(72, 96), difficulty=0.2)
    network, images, labels = learn(
        BUNDLE,
        manifest,
        tmp_path / "run",
        image_size=64,
        max_epochs=32,
        num_classes=3,
        augmentation="light",
        average_weights=None,
    )
    assert accuracy(network, images, labels) > 0.7


@pytest.fixture(scope="module")
def ph2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ph2")
    mimic("ph2", folder)
    return folder


def test_the_shipped_bundle_is_evaluated_on_a_collection_that_names_its_classes_otherwise(
    ph2: Path, tmp_path: Path
) -> None:
    prepare("ph2", ph2, tmp_path / "ph2.json")
    found = evaluate(BUNDLE, tmp_path / "ph2.json", tmp_path / "out", device="cpu", n_boot=50)
    note = "common nevus and atypical nevus for nv; melanoma for mel"
    assert sum(note in warning for warning in found.warnings) == 1
    assert any("No case of akiec, bcc, bkl, df, vasc is among these data" in warning for warning in found.warnings)
    assert all(np.isfinite(figure.value) for figure in found.values())
    with (tmp_path / "out" / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["truth"] for row in rows} == {"nv", "mel"} and len(rows) == 12
    assert note in (tmp_path / "out" / "report.html").read_text()
    assert note in (tmp_path / "out" / "metrics.json").read_text()


def test_the_shipped_bundle_is_evaluated_on_melanoma_against_the_rest(ph2: Path, tmp_path: Path) -> None:
    prepare("ph2", ph2, tmp_path / "ph2.json", task="melanoma")
    found = evaluate(BUNDLE, tmp_path / "ph2.json", tmp_path / "out", device="cpu", n_boot=50)
    assert any("other for akiec, bcc, bkl, df, nv and vasc; melanoma for mel" in one for one in found.warnings)
    with (tmp_path / "out" / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["truth"] for row in rows} == {"other", "melanoma"} >= {row["answer"] for row in rows}
    shown = [name for name in rows[0] if name.startswith("probability_")]
    assert shown == ["probability_other", "probability_melanoma"]
    assert all(float(row["probability_other"]) + float(row["probability_melanoma"]) == pytest.approx(1) for row in rows)
