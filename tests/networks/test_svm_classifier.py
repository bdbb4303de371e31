"""A classifier that answers by its last layer first, by its SVM once that is fitted."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.svm import SVC
from torch import nn

from medresnet3d.networks.svm_classifier import SVMClassifier, build_svm_classifier
from tests.networks.base import ClassifierSuite


def with_svm(network: SVMClassifier) -> SVMClassifier:
    """Fit the SVM on random points, so that it has an opinion of its own."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, network.classifier.in_features))
    network.svm.from_sklearn(SVC(kernel=network.svm.kernel).fit(values, np.arange(40) % 2))
    return network


class TestSVMClassifier(ClassifierSuite):
    def build(self, spatial_dims: int = 3, **options: object) -> nn.Module:
        return with_svm(build_svm_classifier("resnet10", spatial_dims, 1, 2, "slim", "rbf", 64))

    def test_classifier_is_the_last_layer(self, spatial_dims: int) -> None:
        network, image = self.seeded(spatial_dims), self.image(spatial_dims)
        features = network.eval().forward_features(image)
        assert isinstance(network.classifier, nn.Linear) and features.shape == (3, network.classifier.in_features)
        torch.testing.assert_close(network(image), network.svm(nn.functional.normalize(features, dim=1)))


def test_unfitted_it_answers_by_the_last_layer() -> None:
    torch.manual_seed(0)
    network = build_svm_classifier("resnet10", size="slim")
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        before = network.eval()(image)
        torch.testing.assert_close(before, network.classifier(network.forward_features(image)).log_softmax(1))
        with_svm(network)
        assert not torch.allclose(network(image), before)
        assert network.train()(image).shape == (2, 2)


def test_the_published_size() -> None:
    with torch.device("meta"):
        network = build_svm_classifier("resnet152", num_classes=2)
    assert sum(parameter.numel() for parameter in network.parameters()) == 58_147_906
    assert network.svm.mean.shape == (2048,)
