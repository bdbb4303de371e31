"""A classifier beside a finder of lesions: it learns as by itself, and answers with what the lesions say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.lesion_informed import LesionInformedClassifier, inform
from medresnet3d.networks.trunks import trunks_of
from tests.networks.base import NetworkSuite


def fitted(spatial_dims: int = 2, **options: Any) -> LesionInformedClassifier:
    classifier = build_classifier("resnet10", spatial_dims, 1, 2, "slim")
    network = inform(classifier, 2, 2, spatial_dims=spatial_dims, in_channels=1, width=0.125, **options)
    assert isinstance(network, LesionInformedClassifier)
    network.put("weight", torch.randn(2, 4))
    return network


class TestLesionInformed(NetworkSuite):
    def build(self, spatial_dims: int = 3, **options: Any) -> nn.Module:
        return fitted(spatial_dims, **options)

    def test_backward_reaches_every_parameter(self, spatial_dims: int) -> None:
        network = self.seeded(spatial_dims).train()
        network(self.image(spatial_dims)).square().sum().backward()
        assert all(parameter.grad is not None for parameter in network.classifier.parameters())
        assert all(parameter.grad is None for parameter in network.finder.parameters())


def test_in_training_it_is_the_classifier_alone_on_smaller_pictures() -> None:
    network, image = fitted().train(), torch.rand(2, 1, 32, 32)
    network.classifier.eval()
    torch.testing.assert_close(network(image), network.classifier(image))


def test_the_answer_is_the_classifiers_and_the_evidence_of_the_loads() -> None:
    network, image = fitted().eval(), torch.rand(2, 1, 64, 64)
    network.put("mean", torch.rand(4))
    network.put("bias", torch.tensor([0.5, -0.5]))
    with torch.no_grad():
        found = network.finder(image).sigmoid()
        expected = torch.log1p(torch.cat([found.sum((2, 3)), found.square().sum((2, 3))], 1))
        torch.testing.assert_close(network.loads(image), expected)
        small = nn.functional.avg_pool2d(image, 2)
        said = network.classifier(small).log_softmax(1) + (expected - network.mean) @ network.weight.T + network.bias
        torch.testing.assert_close(network(image), said)
        torch.testing.assert_close(network.evidence(image), found.amax(1))


def test_without_lesions_the_classifier_stays_as_it_is() -> None:
    classifier = build_classifier("resnet10", 2, 3, 5, "slim")
    assert inform(classifier, 0) is classifier
    with pytest.raises(ConfigError, match="lesions is -1"):
        inform(classifier, -1)


def test_published_weights_and_frozen_stages_are_the_classifiers_alone() -> None:
    assert list(trunks_of(fitted())) == ["classifier."]
