"""What is special about this bundle: an Inception structure in front of a DenseNet, on the breast of a whole film."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from medresnet3d.bundle.load import load_config
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data import items
from medresnet3d.data.phantoms.mammography import breast_film, write_inbreast
from medresnet3d.data.preparation.radiographs import write_mammogram
from medresnet3d.networks.densenet2 import DenseNet2, InceptionStem
from medresnet3d.workflows.predictor import Predictor
from medresnet3d.workflows.train import train
from tests.bundles.as_configured import answers, learn, network_of, parameter_count

BUNDLE = find_bundle("mammogram_densenet2")
TINY = {"image_size": 32, "max_epochs": 1, "batch_size": 8}


@pytest.mark.parametrize(("size", "parameters"), [("slim", 450_872), ("paper", 6_956_474)])
def test_the_published_size_is_one_id_away(size: str, parameters: int) -> None:
    network = network_of(BUNDLE, size=size)
    assert isinstance(network, DenseNet2) and isinstance(network.features.conv0, InceptionStem)
    assert parameter_count(network) == parameters


def test_an_epoch_may_have_fifteen_variants_of_each_film(tmp_path: Path) -> None:
    manifest = write_inbreast(tmp_path, 6, size=(48, 36))
    overrides = {"data": str(manifest), "device": "cpu", "image_size": 32, "repeats": 15}
    data = load_config(BUNDLE, ("train.json",), overrides).get_parsed_content("train#dataset")
    films = len(data) // 15
    assert len(data) == 15 * len(items(manifest, "training"))
    first, again, other = (torch.as_tensor(data[index]["image"]) for index in (0, 0, films))
    assert first.shape == (1, 32, 32)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert data[0]["label"] == data[films]["label"]


def test_a_trained_run_answers_dicom_and_its_picture_alike(tmp_path: Path) -> None:
    manifest = write_inbreast(tmp_path / "films", 9, size=(64, 48))
    predictor = Predictor(train(BUNDLE, manifest, tmp_path / "run", set=TINY, device="cpu"), device="cpu")
    film = breast_film(7, (64, 48), malignant=True)
    write_mammogram(tmp_path / "film.dcm", film.pixels, bits=12, inverted=True, window=(2048.0, 4096.0))
    Image.fromarray((film.pixels >> 4).astype(np.uint8)).save(tmp_path / "film.png")
    dicom, picture = (predictor(str(tmp_path / name)).probabilities for name in ("film.dcm", "film.png"))
    assert dicom == pytest.approx(picture, abs=0.02) and sum(dicom.values()) == pytest.approx(1)


@pytest.mark.slow
def test_learns_masses_on_whole_films_from_phantoms(tmp_path: Path) -> None:
    manifest = write_inbreast(tmp_path / "films", 150, seed=3, size=(96, 72), difficulty=0.1)
    network, images, labels = learn(BUNDLE, manifest, tmp_path / "run")
    auc = roc_auc_score(labels, answers(network, images).softmax(1)[:, 1])
    print(f"AUC {auc:.3f} on {len(labels)} phantoms")
    assert auc > 0.8
