"""A network with a new end, and the layers from which it may be fine-tuned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.fine_tuned import FineTunedClassifier, build_fine_tuned, probe_points
from medresnet3d.networks.taps import layer_widths
from medresnet3d.networks.transfer import start_from
from tests.networks.base import NetworkSuite


class TestFineTunedClassifier(NetworkSuite):
    dims = (2, 3)
    counts = (({"spatial_dims": 2, "size": "slim", "arch": "resnet18", "in_channels": 3}, 735_634),)
    scriptable = False

    def build(self, spatial_dims: int = 3, **options: Any) -> nn.Module:
        return build_fine_tuned(
            **{"arch": "resnet10", "spatial_dims": spatial_dims, "in_channels": 1, "size": "slim", **options}
        )


@pytest.mark.parametrize(
    ("arch", "first", "last", "number"),
    [
        ("resnet50", "maxpool", "layer4.2", 17),
        ("vgg16", "features.4", "features.30", 5),
        ("inception_v3", "features.Conv2d_1a_3x3", "features.Mixed_7c", 18),
    ],
)
def test_pooling_layers_and_blocks_may_be_the_node(arch: str, first: str, last: str, number: int) -> None:
    network = build_classifier(arch, 2, 3, 2, width=0.0625)
    points = probe_points(network)
    assert (points[0], points[-1], len(points)) == (first, last, number)
    assert list(layer_widths(network, points, torch.rand(1, 3, 96, 96))) == points


def test_the_new_end_has_a_hidden_layer_and_the_features_in_front_of_the_last_one() -> None:
    network = build_fine_tuned("resnet10", 2, 1, 3, "slim", hidden=32).eval()
    image = torch.rand(2, 1, 32, 32)
    features = network.forward_features(image)
    assert features.shape == (2, 32) and (features >= 0).all()
    torch.testing.assert_close(network.classifier(features), network(image))
    assert network.node_layer is None
    network.node.fill_(1)
    assert network.node_layer == "network.layer1.0"


def test_published_weights_fill_all_but_the_new_end(tmp_path: Path) -> None:
    torch.manual_seed(3)
    published = build_classifier("resnet10", 2, 3, 1000, size="slim").state_dict()
    torch.save({name.replace("classifier.", "fc."): value for name, value in published.items()}, tmp_path / "net.pth")
    network = build_fine_tuned("resnet10", size="slim")
    hidden = network.hidden.weight.clone()
    start_from(network, tmp_path / "net.pth")
    assert torch.equal(network.network.layer4[0].conv1.weight, published["layer4.0.conv1.weight"])
    assert torch.equal(network.hidden.weight, hidden)


def test_layers_that_are_not_there() -> None:
    with pytest.raises(ConfigError, match="Layer 'layer9' is unknown"):
        build_fine_tuned("resnet10", 2, layers=["layer9"])
    with pytest.raises(ConfigError, match="has no layer to choose from"):
        FineTunedClassifier(build_classifier("resnet10", 2, 1, 2, "slim"), layers=[])
