"""Auxiliary classifiers on inner layers, in training mode only."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from medresnet3d.data.phantoms.cells import I3A
from medresnet3d.data.phantoms.hep2_patterns import hep2_cell
from medresnet3d.errors import ConfigError
from medresnet3d.losses.deep_supervision import FadingDeepSupervisionLoss
from medresnet3d.networks.deep_supervision import build_deeply_supervised
from tests.networks.base import NetworkSuite


class TestDeeplySupervised(NetworkSuite):
    def build(self, spatial_dims: int = 3, **options: object) -> nn.Module:
        return build_deeply_supervised("resnet10", ("layer2", "layer3"), spatial_dims, 1, 2, "slim")


def test_early_layers_get_a_larger_gradient() -> None:
    """With sigmoids, whose gradient fades from layer to layer: what deep supervision was invented for."""
    torch.manual_seed(0)
    layers = ("features.9", "features.16")
    net = build_deeply_supervised("vgg16", layers, size="slim", num_classes=3, act="sigmoid").train()
    image, label = torch.rand(8, 3, 48, 48), torch.arange(8) % 3

    def first_gradient(start: float) -> float:
        net.zero_grad()
        loss = FadingDeepSupervisionLoss(nn.CrossEntropyLoss(), start=start, end=start)
        loss(net(image), label).backward()
        return float(net.network.get_parameter("features.0.weight").grad.norm())

    assert first_gradient(0.3) > 100 * first_gradient(0.0)


@pytest.mark.slow
def test_with_batch_normalisation_the_first_layer_gets_no_larger_gradient_at_the_start() -> None:
    """What deep supervision was invented for is no trouble of a ResNet; the card of `hep2_deep_supervision_resnet`."""
    cells = [hep2_cell([n], list(I3A.values())[n % 6], 64)[0] for n in range(18)]
    image = torch.from_numpy(np.stack(cells)).float()[:, None].repeat(1, 3, 1, 1) / 255 * 4 - 1
    ratios = []
    for seed in range(5):
        torch.manual_seed(seed)
        net, norms = build_deeply_supervised("resnet18", num_classes=6, size="slim").train(), []
        for weight in (0.3, 0.0):
            net.zero_grad()
            loss = FadingDeepSupervisionLoss(nn.CrossEntropyLoss(), start=weight, end=weight)
            loss(net(image), torch.arange(18) % 6).backward()
            norms.append(float(net.network.get_parameter("conv1.weight").grad.norm()))
        ratios.append(norms[0] / norms[1])
    print("gradient of the first layer, with over without:", np.round(ratios, 3))
    assert min(ratios) > 0.9 and max(ratios) < 1.1


def test_a_weight_of_zero_is_the_plain_network() -> None:
    net = build_deeply_supervised("resnet10", size="slim")
    image = torch.rand(2, 3, 48, 48)
    assert len(net.train()(image)) == 3
    plain = net.eval()(image)
    assert torch.equal(net.classifier(net.forward_features(image)), plain)
    assert torch.equal(plain, net.network(image)) and plain.shape == (2, 2)


def test_a_layer_that_is_not_there_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'layer3'"):
        build_deeply_supervised("resnet10", ("layr3",), size="slim")
