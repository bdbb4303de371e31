from __future__ import annotations

import pytest
import torch
from torch import nn

from medresnet3d.networks.layers.choice import LayerChoice


@pytest.mark.parametrize("kernel", [1, 3, 7, (1, 3, 3)])
def test_a_convolution_keeps_the_size_unless_it_is_told_otherwise(kernel: int | tuple[int, ...]) -> None:
    layers, image = LayerChoice(3), torch.zeros(1, 2, 8, 8, 8)
    assert layers.conv(2, 4, kernel)(image).shape == (1, 4, 8, 8, 8)
    assert layers.conv(2, 4, 3, padding=0, stride=2)(image).shape == (1, 4, 3, 3, 3)
    assert layers.conv(2, 4, kernel).bias is None


def test_layers_are_those_that_the_names_say() -> None:
    layers = LayerChoice(2, ["group", {"num_groups": 2}], "prelu")
    assert isinstance(layers.normalisation(4), nn.GroupNorm)
    assert layers.activation(4).weight.shape == (4,)
    assert isinstance(LayerChoice(3, "").normalisation(4), nn.Identity)
    assert layers.conv_type is nn.Conv2d


def test_pools() -> None:
    layers, image = LayerChoice(2), torch.arange(16.0).reshape(1, 1, 4, 4)
    assert layers.max_pool()(image).flatten().tolist() == [5, 7, 13, 15]
    assert layers.average_pool()(image).item() == 7.5
