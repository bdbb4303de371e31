"""What is special about this bundle: five grades are learned, and their sum from a grade on is the screening score."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medresnet3d.bundle.load import load_config, load_network
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data import items
from medresnet3d.data.phantoms.fundus import write_eyepacs
from medresnet3d.data.phantoms.fundus_lesions import write_idrid_lesions
from medresnet3d.data.phantoms.pictures import fundus
from medresnet3d.metrics.screening import screening_scores
from medresnet3d.workflows.evaluate import evaluate
from medresnet3d.workflows.explanation import explain
from medresnet3d.workflows.infer import infer
from medresnet3d.workflows.predictor import Predictor
from medresnet3d.workflows.train import train
from tests.bundles.as_configured import network_of, parameter_count, prepared

BUNDLE = find_bundle("retinopathy_screening_resnet")
TINY = {"arch": "resnet10", "image_size": 32, "max_epochs": 1, "batch_size": 8, "val_interval": 1, "lesions": 0}
BINARY = {"loss": {"name": "merged_cross_entropy", "from_grade": "@screening_grade"}}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_eyepacs(tmp_path_factory.mktemp("fundus"), 30, 10, size=(36, 48))


@pytest.fixture(scope="module")
def run(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    return train(BUNDLE, manifest, folder, set={**TINY, "rivals": {"binary": BINARY}}, device="cpu")


@pytest.mark.parametrize(
    ("overrides", "parameters"),
    [
        ({}, 1_487_281),
        ({"lesions": 0}, 702_741),
        ({"lesions": 0, "size": "paper", "arch": "resnet34"}, 21_287_237),
        ({"lesions": 0, "size": "paper", "arch": "resnet50"}, 23_518_277),
    ],
)
def test_the_published_size_is_one_id_away(overrides: dict[str, Any], parameters: int) -> None:
    network = network_of(BUNDLE, **overrides)
    assert parameter_count(network) == parameters


def test_a_finder_learns_lesions_first_and_another_training_takes_it_over(manifest: Path, tmp_path: Path) -> None:
    lesions = write_idrid_lesions(tmp_path / "lesions", 6, 1, size=(48, 64))
    taught = {**TINY, "lesions": 3, "lesion_data": str(lesions), "lesion_epochs": 2}
    first = train(BUNDLE, manifest, tmp_path / "first", set=taught, device="cpu")
    network = load_network(first)
    assert float(network.weight.abs().max()) > 0 and float(network.finder.heads[0].bias.detach().std()) > 0
    picture = items(manifest, "validation")[0]["image"]
    image = prepared(first / "bundle", picture)
    assert image.shape == (1, 3, 64, 64)
    heat = explain(predictor := Predictor(first, device="cpu"), predictor(picture, keep_input=True))
    assert heat is not None
    gradcam = explain(predictor, predictor(picture, keep_input=True), "gradcam")
    assert gradcam is not None and gradcam.shape == heat.shape and not np.allclose(gradcam, heat)
    np.testing.assert_allclose(heat, network.evidence(image)[0].detach().numpy(), atol=1e-4)
    weights = {"lesion_weights": str(first / "bundle" / "models" / "model.pt")}
    second = train(BUNDLE, manifest, tmp_path / "second", set={**TINY, "lesions": 3, **weights}, device="cpu")
    for own, other in zip(load_network(second).finder.parameters(), network.finder.parameters(), strict=True):
        assert torch.equal(own, other)


@pytest.mark.parametrize("grade", [1, 2])
def test_the_score_is_in_the_answer_and_the_network_still_gives_five_logits(
    grade: int, run: Path, manifest: Path, tmp_path: Path
) -> None:
    picture = items(manifest, "validation")[3]["image"]
    infer(run, [picture], tmp_path, device="cpu", set={"screening_grade": grade})
    (row,) = csv.DictReader((tmp_path / "predictions.csv").open())
    probabilities = [float(value) for name, value in row.items() if name.startswith("probability_")]
    assert len(probabilities) == 5
    assert float(row["details_screening_score"]) == pytest.approx(screening_scores(probabilities, grade), abs=1e-5)
    assert row["details_screening_from_grade"] == str(grade)
    assert re.search(r"score 0\.\d+, from grade \d", (tmp_path / "report.html").read_text())
    image = prepared(run / "bundle", picture)
    with torch.inference_mode():
        logits = load_network(run)(image)
    np.testing.assert_allclose(logits.softmax(1)[0], probabilities, atol=1e-5)


def test_evaluation_measures_the_screening_and_compares_it_with_binary_training(
    run: Path, manifest: Path, tmp_path: Path
) -> None:
    found = evaluate(run, manifest, tmp_path, device="cpu", n_boot=50)
    assert {"quadratic_kappa", "screening_auc", "screening_sensitivity"} <= set(found)
    assert found.side_by_side is not None and found.side_by_side.figure == "screening_auc"
    graded, binary = found.side_by_side.entrants
    assert binary.name == "binary" and binary.difference is not None
    difference = binary.figures["screening_auc"].value - graded.figures["screening_auc"].value
    assert binary.difference.value == pytest.approx(difference)


def test_the_black_border_is_cut_off_and_the_local_average_is_one_id() -> None:
    picture = fundus((120, 80), seed=1).picture.astype(np.float32)
    wide = np.pad(picture, ((0, 0), (40, 60), (10, 30)))
    seen = []
    for pixels, local in ((picture, False), (wide, False), (wide, True)):
        parser = load_config(BUNDLE, ("inference.json",), {"local_average": local})
        chain = parser.get_parsed_content("preprocessing").transforms
        item: dict[str, Any] = {"image": torch.as_tensor(pixels)[..., None]}
        for transform in chain[1:]:
            item = transform(item)
        seen.append(np.asarray(item["image"]))
    assert seen[0].shape == (3, 448, 448)
    np.testing.assert_allclose(seen[0], seen[1], atol=1e-4)
    assert seen[2][:, 0, 0].std() < 1 and np.abs(seen[2] - seen[1]).mean() > 0.2
