"""A classifier beside a machine on measurements: it learns as by itself and answers with both."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.described import DescribedClassifier, describe
from medresnet3d.networks.object_descriptor import ObjectDescriptor
from medresnet3d.networks.trunks import trunks_of
from tests.networks.base import NetworkSuite


def fitted(**options: Any) -> DescribedClassifier:
    network = describe(build_classifier("resnet10", 2, 3, 2, "slim"), 2, 32, capacity=4, **options)
    assert isinstance(network, DescribedClassifier)
    network.svm.put("vectors", torch.randn(4, ObjectDescriptor.length))
    network.svm.put("coefficients", torch.randn(1, 4))
    network.svm.put("gamma", 1e-3)
    network.svm.put("ready", True)
    network.put("deviation", torch.full((ObjectDescriptor.length,), 10.0))
    return network


class TestDescribed(NetworkSuite):
    dims = (2,)
    in_channels = 3

    def build(self, spatial_dims: int = 2, **options: Any) -> nn.Module:
        return fitted(**options)

    def test_export(self, spatial_dims: int) -> None:
        network, image = self.seeded(spatial_dims).eval(), self.image(spatial_dims, 48)
        with torch.no_grad():
            traced = torch.jit.trace(network, image[:1])
            torch.testing.assert_close(traced(image), network(image), rtol=1e-4, atol=1e-5)


def test_in_training_it_is_the_classifier_alone() -> None:
    network, image = fitted().train(), torch.rand(2, 3, 32, 32)
    network.classifier.eval()
    torch.testing.assert_close(network(image), network.classifier(image))


def test_the_answer_is_the_mean_of_both_log_probabilities() -> None:
    network, image = fitted(share=0.25).eval(), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        small = nn.functional.interpolate(image, (32, 32), mode="bilinear", align_corners=False)
        large = nn.functional.interpolate(image, (128, 128), mode="bilinear", align_corners=False)
        measured = ((network.descriptor(large) - network.mean) / network.deviation).clamp(-2.5, 2.5)
        pooled = 0.75 * network.classifier(small).log_softmax(1) + 0.25 * network.svm(measured)
        torch.testing.assert_close(network(image), pooled.log_softmax(1))


def test_until_the_machine_is_fitted_the_classifier_answers_alone() -> None:
    network, image = describe(build_classifier("resnet10", 2, 3, 2, "slim"), 2, 48).eval(), torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(network(image), network.classifier(image).log_softmax(1))
        torch.testing.assert_close(torch.jit.trace(network, image)(image), network(image))


def test_mixed_precision_does_not_reach_the_measurements() -> None:
    network, image = fitted().eval(), torch.rand(2, 3, 48, 48)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = network.measurements(image)
    with torch.no_grad():
        assert torch.equal(half, network.measurements(image))


def test_a_share_of_nothing_leaves_the_classifier_as_it_is() -> None:
    classifier = build_classifier("resnet10", 2, 3, 5, "slim")
    assert describe(classifier, 5, 32, share=0) is classifier
    with pytest.raises(ConfigError, match="share"):
        describe(classifier, 5, 32, share=1.0)


def test_published_weights_go_into_the_classifier() -> None:
    assert list(trunks_of(fitted())) == ["classifier."]
