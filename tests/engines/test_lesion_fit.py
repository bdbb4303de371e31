"""The stages of a lesion-informed classifier: take over or teach a finder, and fit what its findings say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from medresnet3d.data import SeededDataset
from medresnet3d.engines.lesion_fit import FitLesionEvidence, TakeFinder, finder_stages
from medresnet3d.errors import ConfigError, WeightsError
from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.lesion_informed import LesionInformedClassifier, inform


class Bright(nn.Module):
    """Finds bright pixels."""

    def forward(self, x: Tensor) -> Tensor:
        return 40 * (x[:, :1] - 0.8)


def pictures(count: int, seed: int, grades: tuple[int, ...]) -> SeededDataset:
    """A few bright pixels more with each grade, on noise."""
    rng = np.random.default_rng(seed)
    items: list[dict[str, Any]] = []
    for number in range(count):
        grade = grades[number % len(grades)]
        image = torch.from_numpy(rng.uniform(0, 0.5, (1, 32, 32))).float()
        spots = rng.poisson(4 * 3**grade)
        image[0, rng.integers(32, size=spots), rng.integers(32, size=spots)] = 1
        items.append({"image": image, "label": grade, "patient": str(number)})
    return SeededDataset(items, same)


def same(item: dict[str, Any]) -> dict[str, Any]:
    return item


def network_of(classes: int) -> LesionInformedClassifier:
    torch.manual_seed(0)
    return LesionInformedClassifier(build_classifier("resnet10", 2, 1, classes, "slim"), Bright(), 1, classes).eval()


@pytest.mark.parametrize("grades", [(0, 1, 2), (0, 1), (0, 2)])
def test_the_evidence_is_that_of_scikit_learns_regression(grades: tuple[int, ...], tmp_path: Path) -> None:
    network, known, unseen = network_of(3), pictures(60, 0, grades), pictures(30, 1, grades)
    FitLesionEvidence(known, same)(network, tmp_path)
    loads = [network.loads(torch.stack([item["image"] for item in part.data])).double() for part in (known, unseen)]
    scaler = StandardScaler().fit(loads[0])
    model = LogisticRegression(class_weight="balanced", max_iter=5000)
    model.fit(scaler.transform(loads[0]), [item["label"] for item in known.data])
    images = torch.stack([item["image"] for item in unseen.data])
    with torch.no_grad():
        added = network(images) - network.classifier(network.shrink(images)).log_softmax(1)
    probabilities = added[:, list(grades)].double().softmax(1)
    np.testing.assert_allclose(probabilities, model.predict_proba(scaler.transform(loads[1])), atol=1e-4)


def test_lesions_tell_grades_that_an_untaught_classifier_cannot(tmp_path: Path) -> None:
    network, unseen = network_of(3), pictures(90, 1, (0, 1, 2))
    images = torch.stack([item["image"] for item in unseen.data])
    labels = torch.tensor([item["label"] for item in unseen.data])
    with torch.no_grad():
        before = (network(images).argmax(1) == labels).float().mean()
        FitLesionEvidence(pictures(60, 0, (0, 1, 2)), same)(network, tmp_path)
        after = (network(images).argmax(1) == labels).float().mean()
    assert float(before) < 0.5 and float(after) > 0.8


def test_a_finder_is_taken_over_and_nothing_else(tmp_path: Path) -> None:
    source, target = (inform(build_classifier("resnet10", 2, 3, 5, "slim"), 2, width=0.125) for _ in range(2))
    kept = {name: tensor.clone() for name, tensor in target.classifier.state_dict().items()}  # type: ignore[union-attr]
    torch.save(source.state_dict(), tmp_path / "model.pt")
    (stage,) = finder_stages(target, weights=str(tmp_path / "model.pt"), values=[[3], [2]])
    stage.fit(target, tmp_path)  # type: ignore[attr-defined]
    for name, tensor in target.state_dict().items():
        torch.testing.assert_close(
            tensor, source.state_dict()[name] if "finder" in name else kept.get(name[11:], tensor)
        )


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    network = inform(build_classifier("resnet10", 2, 3, 5, "slim"), 2, width=0.125)
    with pytest.raises(ConfigError, match="give lesion_data or lesion_weights, or set lesions=0"):
        TakeFinder(None)(network, tmp_path)
    with pytest.raises(WeightsError, match=r"nothing\.pt: no such file"):
        TakeFinder(str(tmp_path / "nothing.pt"))(network, tmp_path)
    torch.save({"classifier.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="has no finder of this shape"):
        TakeFinder(str(tmp_path / "other.pt"))(network, tmp_path)
    with pytest.raises(ConfigError, match="names 1 kinds of lesions, but lesions is 2"):
        finder_stages(network, values=[[3]])
    assert finder_stages(nn.Linear(2, 2)) == []
