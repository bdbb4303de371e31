"""What is special about this bundle: exudates are found first, and the crop around the likeliest decides."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from medresnet3d.bundle.load import load_network
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data import items
from medresnet3d.data.phantoms.fundus_lesions import write_hei_med
from medresnet3d.engines import load_checkpoint
from medresnet3d.networks.cascade import PeakCascade
from medresnet3d.workflows.explanation import explain
from medresnet3d.workflows.infer import infer
from medresnet3d.workflows.predictor import Predictor
from medresnet3d.workflows.train import train
from tests.bundles.as_configured import assert_resuming_changes_nothing, network_of, parameter_count

BUNDLE = find_bundle("macular_edema_cascade")
TINY = {"image_size": 64, "tile_size": 32, "crop_size": 16, "depth": 10, "arch": "resnet10_unpooled", "folds": 2}
SHORT = {
    "max_epochs": 1,
    "second_epochs": 1,
    "tiles_per_photograph": 1,
    "hard_negatives": 2,
    "hard_negative_distance": 4,
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hei_med(tmp_path_factory.mktemp("eyes"), 8, 8, size=(48, 64))


@pytest.fixture(scope="module")
def run(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    return train(BUNDLE, manifest, folder, set={"task": "classification", **TINY, **SHORT}, device="cpu")


@pytest.mark.parametrize(
    ("overrides", "parameters"),
    [
        ({}, 784_276),
        ({"task": "classification"}, 1_486_630),
        ({"task": "classification", "size": "paper", "depth": 50, "arch": "resnet50"}, 47_217_542),
    ],
)
def test_the_published_size_is_one_id_away(overrides: dict[str, Any], parameters: int) -> None:
    network = network_of(BUNDLE, **overrides)
    assert parameter_count(network) == parameters


def test_crops_come_from_finders_that_have_not_seen_the_patient(run: Path, manifest: Path) -> None:
    stages = run / "stages"
    assert sorted(path.name for path in stages.glob("second_without_fold_*")) == [
        "second_without_fold_0",
        "second_without_fold_1",
    ]
    crops = load_checkpoint(stages / "second_crops.pt")
    labels = [item["label"] for item in items(manifest, "training")]
    assert crops["label"].tolist() == [label for label in labels for _ in range(2 if label == 0 else 1)]
    assert crops["image"].shape[1:] == (3, 16, 16)


def test_the_answer_is_that_of_the_crop_and_the_report_shows_the_map_it_was_chosen_on(
    run: Path, manifest: Path
) -> None:
    network = load_network(run)
    assert isinstance(network, PeakCascade)
    predictor = Predictor(run, device="cpu")
    assert predictor.task == "classification" and predictor.labels == ("no exudate", "exudate")
    prediction = predictor(items(manifest, "test")[0]["image"], keep_input=True)
    image = prediction.input_tensor.as_tensor()[None]
    with torch.inference_mode():
        expected = network.second(network.crop(image, network.finder(image))).softmax(1)[0]
        evidence = network.finder(image).sigmoid()[0, 0]
    np.testing.assert_allclose(list(prediction.probabilities.values()), expected, atol=0.02)
    np.testing.assert_allclose(explain(predictor, prediction), evidence, atol=0.02)


def test_a_resumed_run_is_the_same(run: Path, manifest: Path) -> None:
    assert_resuming_changes_nothing(BUNDLE, manifest, run)


def test_exudates_are_a_picture_of_the_photographs_size(manifest: Path, tmp_path: Path) -> None:
    overrides = {"max_epochs": 1, "tiles_per_photograph": 1, **{key: TINY[key] for key in ("image_size", "tile_size")}}
    masks = write_hei_med(tmp_path / "eyes", 6, 2, seed=1, size=(48, 64), task="exudates")
    run = train(BUNDLE, masks, tmp_path / "run", set=overrides, device="cpu")
    picture = items(masks, "test")[0]["image"]
    infer(run, picture, tmp_path / "out", device="cpu")
    answer = Image.open(next((tmp_path / "out").glob("*_seg.png")))
    assert answer.size == Image.open(picture).size
    row = json.loads((tmp_path / "out" / "predictions.jsonl").read_text().splitlines()[0])
    assert row["warnings"] == [] and row["volumes_ml"] == {}
    assert row["details"]["pixels"] == {"exudate": int((np.asarray(answer) > 0).sum())}
    overlay = np.asarray(Image.open(next((tmp_path / "out").glob("*_overlay.png"))))
    assert overlay.shape == (*answer.size[::-1], 3)
    report = (tmp_path / "out" / "report.html").read_text()
    shown = re.sub(r"<(style|script).*?</\1>|data:image[^\"]*", "", report, flags=re.DOTALL)
    assert not re.search(r"\bm[ml]\b|>[RLAP]<", shown) and "exudate" in shown
