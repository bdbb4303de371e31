from __future__ import annotations

from typing import Any

import pytest
import torch

from medresnet3d.networks.vgg import VGG
from tests.networks.base import ClassifierSuite

IMAGENET = {"spatial_dims": 2, "in_channels": 3, "num_classes": 1000, "width": 1.0}


class TestVGG(ClassifierSuite):
    counts = (
        ({**IMAGENET, "norm": None}, 138_357_544),  # these four are torchvision's
        ({**IMAGENET, "norm": "batch"}, 138_365_992),
        ({**IMAGENET, "norm": None, "depth": 19}, 143_667_240),
        ({**IMAGENET, "norm": "batch", "depth": 19}, 143_678_248),
        ({"width": 1.0, "norm": None}, 63_022_914),
        ({"width": 1.0, "norm": None, "depth": 19}, 78_949_442),
    )

    def build(
        self, spatial_dims: int = 3, depth: int = 16, width: float = 0.0625, norm: str | None = "batch", **options: Any
    ) -> VGG:
        return VGG(depth, spatial_dims, width=width, norm=norm, **options)


@pytest.mark.parametrize("depth", [16, 19])
def test_without_normalisation_the_signal_neither_dies_nor_grows(depth: int) -> None:
    torch.manual_seed(0)
    network = VGG(depth, 3, width=0.125).eval()
    image = torch.rand(2, 1, 32, 32, 32)
    with torch.no_grad():
        output = network(image)
    assert 1e-3 < output.std() < 1e3


def test_pooled_map_is_seven_in_2d_and_one_in_3d() -> None:
    for spatial_dims, columns in ((2, 32 * 49), (3, 32)):
        assert VGG(16, spatial_dims, width=0.0625).hidden[0].in_features == columns
