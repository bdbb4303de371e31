"""The machine beside a classifier is fitted on measurements of the training pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medresnet3d.data import SeededDataset
from medresnet3d.engines.described_fit import FitDescribed, part_of
from medresnet3d.engines.features import Cases
from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.described import DescribedClassifier, describe
from medresnet3d.transforms.picture_pipelines import picture_inference


@pytest.fixture
def items(tmp_path: Path) -> list[dict[str, object]]:
    """Discs that are brown (class 0) or red (class 1) on skin of varied lightness."""
    made, random = [], np.random.default_rng(0)
    down, right = np.mgrid[:64, :64] - 31.5
    for number in range(24):
        label = number % 2
        picture = np.full((64, 64, 3), [215, 165, 150]) * random.uniform(0.7, 1.1)
        inside = down**2 + right**2 < random.uniform(12, 20) ** 2
        picture[inside] = np.array([[110, 70, 50], [170, 50, 60]][label]) * random.uniform(0.9, 1.1)
        path = tmp_path / f"{number}.png"
        Image.fromarray((picture + random.normal(0, 4, picture.shape)).clip(0, 255).astype(np.uint8)).save(path)
        made.append({"image": str(path), "label": label, "patient": f"p{number}", "case": str(number)})
    return made


def network(capacity: int = 64) -> DescribedClassifier:
    made = describe(build_classifier("resnet10", 2, 3, 2, "slim"), 2, 32, capacity=capacity)
    assert isinstance(made, DescribedClassifier)
    return made.eval()


@pytest.mark.parametrize("capacity", [64, 8])
def test_it_tells_colours_apart_that_the_classifier_never_learnt(items, tmp_path: Path, capacity: int):
    learner, transform = network(capacity), picture_inference(128)
    FitDescribed(SeededDataset(items[:16], transform), transform)(learner, tmp_path / "folds")
    assert bool(learner.svm.ready)
    images = torch.stack([transform(item)["image"].as_tensor() for item in items[16:]])
    with torch.inference_mode():
        found = learner.svm(learner.standardised(learner.measurements(images))).argmax(1)
    assert found.tolist() == [item["label"] for item in items[16:]]


def test_where_a_class_has_too_few_patients_the_classifier_answers_alone(items, tmp_path: Path, caplog):
    learner, transform = network(), picture_inference(128)
    FitDescribed(SeededDataset([*items[:8:2], items[1]], transform), transform)(learner, tmp_path / "folds")
    assert not bool(learner.svm.ready)
    assert "Class 1 has fewer than two training patients" in caplog.text


def test_a_classifier_that_measures_nothing_is_left_as_it_is(items, tmp_path: Path):
    plain, transform = build_classifier("resnet10", 2, 3, 2, "slim"), picture_inference(128)
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    FitDescribed(SeededDataset(items, transform), transform)(plain, tmp_path / "folds")
    assert all(torch.equal(tensor, before[name]) for name, tensor in plain.state_dict().items())


def test_a_part_has_all_classes_alike():
    labels = [0] * 50 + [1] * 6 + [2] * 4
    cases = Cases(torch.arange(60.0)[:, None], labels, [str(n) for n in range(60)])
    part = part_of(cases, 15)
    assert np.bincount(part.labels).tolist() == [6, 5, 4] or np.bincount(part.labels).tolist() == [5, 6, 4]
    assert [labels[int(value)] for value in part.features[:, 0]] == part.labels
    assert part_of(cases, 60) is cases
