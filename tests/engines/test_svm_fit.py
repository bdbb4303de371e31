"""The SVM of a network is fitted by patient, on the training cases alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.calibration import _sigmoid_calibration
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from torch import Tensor, nn

from medresnet3d.engines.features import Cases, extract
from medresnet3d.engines.out_of_fold import out_of_fold
from medresnet3d.engines.svm_fit import FitSVM, fit_svm, platt
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.networks.heads.svm import SVMHead
from medresnet3d.networks.svm_classifier import SVMClassifier, build_svm_classifier


def clouds(seed: int, classes: int = 2, each: int = 40, spread: float = 1.0, per_patient: int = 2) -> Cases:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    values = rng.normal(0, spread, (len(labels), 6)) + 2 * np.eye(6)[labels]
    patients = [f"p{label}_{n // per_patient}" for label in range(classes) for n in range(each)]
    return Cases(torch.from_numpy(values).float(), labels.tolist(), patients)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("classes", [2, 3])
def test_learns_and_its_probabilities_are_calibrated(kernel: str, classes: int) -> None:
    head = SVMHead(6, classes, kernel, capacity=200)
    cost = fit_svm(head, clouds(0, classes))
    assert cost > 0 and bool(head.ready)
    unseen = clouds(1, classes, each=400)
    probabilities = head(unseen.features).exp()
    truth = np.asarray(unseen.labels)
    assert balanced_accuracy_score(truth, probabilities.argmax(1)) > 0.8
    sure = probabilities.amax(1)
    right = (probabilities.argmax(1).numpy() == truth).astype(float)
    assert abs(float(sure.mean()) - right.mean()) < 0.07, "as often right as it says"


def test_permuted_labels_leave_nothing_to_be_learned() -> None:
    """The leak test: more features than cases, so that every fold is separated without an error."""
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(size=(160, 200))).float()
    labels = rng.permutation(np.arange(160) % 2).tolist()
    cases = Cases(features, labels, [f"p{n}" for n in range(160)])

    def model(learned_from: list[int], held_out: list[int], fold: int) -> Tensor:
        head = SVMHead(200, 2)
        part = Cases(features[learned_from], [labels[n] for n in learned_from], [f"p{n}" for n in learned_from])
        fit_svm(head, part, costs=[1.0], folds=3)
        own = roc_auc_score(part.labels, head.decision_function(part.features))
        assert own > 0.99
        return head.decision_function(features[held_out])

    auc = roc_auc_score(labels, out_of_fold(model, cases.patients, classes=labels))
    assert 0.35 < auc < 0.65


def test_the_cost_is_that_of_the_best_balanced_accuracy_out_of_fold(tmp_path: Path) -> None:
    cases = clouds(0, each=30, spread=1.6)
    costs = [0.001, 0.1, 10.0]
    scores = []
    for cost in costs:
        fit_svm(SVMHead(6, 2, "rbf", 100), cases, costs=[cost], folder=tmp_path / str(cost))
        folds = [torch.load(tmp_path / str(cost) / f"fold_{n}.pt", weights_only=True)["values"] for n in range(5)]
        decisions = out_of_fold(lambda a, b, fold, folds=folds: folds[fold], cases.patients, classes=cases.labels)
        scores.append(balanced_accuracy_score(cases.labels, (decisions[:, 0, 0] < 0).int()))
    assert fit_svm(SVMHead(6, 2, "rbf", 100), cases, costs=costs) == costs[int(np.argmax(scores))]


def test_sigmoids_are_platts() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 80)
    decision = rng.normal(1 - 2 * labels, 1.5)  # positive for class 0
    slope, offset = platt(decision[:, None], labels, 2)
    expected = _sigmoid_calibration(decision, labels == 0)
    np.testing.assert_allclose([slope[0], offset[0]], expected, atol=1e-3)


def test_calibration_cases_decide_how_sure_it_is() -> None:
    cases = clouds(0, spread=0.3)
    hard = clouds(1, spread=2.5, each=200)
    sure, careful = SVMHead(6, 2), SVMHead(6, 2)
    fit_svm(sure, cases)
    fit_svm(careful, cases, hard)
    assert torch.equal(sure.vectors, careful.vectors) and torch.equal(sure.intercept, careful.intercept)
    assert careful(hard.features).exp().amax(1).mean() < sure(hard.features).exp().amax(1).mean() - 0.1


def test_what_cannot_be_fitted_is_refused() -> None:
    lonely = Cases(torch.rand(5, 6), [0, 0, 0, 1, 1], ["a", "b", "c", "d", "d"])
    with pytest.raises(DataError, match=r"Class 1 has 1 training patient"):
        fit_svm(SVMHead(6, 2), lonely)
    with pytest.raises(DataError, match="there is room for 2"):
        fit_svm(SVMHead(6, 2, "rbf", capacity=2), clouds(0))
    with pytest.raises(ConfigError, match="positive values of C"):
        fit_svm(SVMHead(6, 2), clouds(0), costs=[0.0])
    with pytest.raises(ConfigError, match="has no SVM"):
        FitSVM(None)(nn.Linear(2, 2), Path())


class Pictures:
    """Class 1: dark and smooth, or bright and rough; class 0: dark and rough, or bright and smooth."""

    def __init__(self, seed: int, cases: int = 80) -> None:
        rng = np.random.default_rng(seed)
        self.data: list[dict[str, Any]] = []
        for number in range(cases):
            bright, rough = number % 2, number // 2 % 2
            image = rng.normal(bright + rng.normal(0, 0.1), 0.5 + rough * rng.uniform(0.8, 1.2), (24, 24))
            label = int(bright == rough)
            self.data.append({"image": torch.from_numpy(image[None]).float(), "label": label, "patient": f"p{number}"})

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.data[index]


def untrained(kernel: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    options = {"spatial_dims": 2, "in_channels": 1, "width": 0.05, "kernel": kernel, "stem_stride": 1}
    return build_svm_classifier("resnet10", **options).eval()


def test_features_repeat_and_a_refit_from_them_is_the_same(tmp_path: Path) -> None:
    network, data = untrained("linear"), Pictures(0, 40)
    FitSVM(data)(network, tmp_path)
    cases = [extract(network, data, lambda x: network.svm_features(network.forward_features(x)), n) for n in (16, 16)]
    assert torch.equal(cases[0].features, cases[1].features)
    assert cases[0].features.shape == (40, network.classifier.in_features)
    again = SVMHead(network.classifier.in_features, 2)
    fit_svm(again, cases[0])
    assert all(torch.equal(value, network.svm.state_dict()[name]) for name, value in again.state_dict().items())


def test_a_case_without_patient_or_class_is_refused() -> None:
    data = Pictures(0, 4)
    del data.data[2]["patient"]
    network = untrained("linear")
    with pytest.raises(DataError, match="names no patient"):
        extract(network, data, network.forward_features)


def accuracy(network: nn.Module, data: Pictures) -> float:
    with torch.no_grad():
        answer = network(torch.stack([item["image"] for item in data.data])).argmax(1)
    return float((answer == torch.tensor([item["label"] for item in data.data])).float().mean())


class MeanAndContrast(nn.Module):
    """A trunk of two features."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(2, 2)

    def forward_features(self, x: Tensor) -> Tensor:
        values = x.flatten(1)
        return torch.stack([values.mean(1), values.std(1)], 1)


def linear_layer(network: nn.Module, data: Pictures, learning_rate: float) -> float:
    """Train the linear last layer on the same standardised features, to the end."""
    cases, unseen = (extract(network, each, network.forward_features) for each in (data, Pictures(99, 200)))
    mean, scale = cases.features.mean(0), cases.features.std(0)
    torch.manual_seed(0)
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters(), learning_rate)
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.cross_entropy(layer((cases.features - mean) / scale), torch.tensor(cases.labels)).backward()
        optimizer.step()
    answer = layer((unseen.features - mean) / scale).argmax(1)
    return float((answer == torch.tensor(unseen.labels)).float().mean())


def test_the_svm_separates_what_the_linear_layer_cannot(tmp_path: Path) -> None:
    """On and off on the same features, where each class has two faces; the off arm has its choice of learning rate."""
    torch.manual_seed(0)
    network, data = SVMClassifier(MeanAndContrast(), "rbf", normalise=False).eval(), Pictures(0)
    unfitted = accuracy(network, Pictures(99, 200))
    FitSVM(data)(network, tmp_path)
    assert accuracy(network, Pictures(99, 200)) > 0.95
    assert max(unfitted, *(linear_layer(network, data, rate) for rate in (0.01, 0.1))) < 0.65
