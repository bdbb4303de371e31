from __future__ import annotations

from typing import Any

import pytest
import torch

from medresnet3d.networks.alexnet import AlexNet
from tests.networks.base import ClassifierSuite


class TestAlexNet(ClassifierSuite):
    size, odd_size = 40, (41, 39, 37)
    counts = (
        ({"spatial_dims": 2, "in_channels": 3, "num_classes": 1000, "width": 1.0, "norm": None}, 61_100_840),
        ({"width": 1.0, "norm": None}, 25_878_850),
    )

    def build(self, spatial_dims: int = 3, width: float = 0.0625, norm: str | None = "batch", **o: Any) -> AlexNet:
        return AlexNet(spatial_dims, width=width, stem_stride=1, norm=norm, **o)


@pytest.mark.parametrize(("stride", "edge"), [(2, 63), (1, 35)])
def test_smallest_image(stride: int, edge: int) -> None:
    network = AlexNet(2, width=0.0625, stem_stride=stride).eval()
    assert network(torch.zeros(1, 1, edge, edge)).shape == (1, 2)
    with pytest.raises(RuntimeError, match="too small"):
        network(torch.zeros(1, 1, edge - 1, edge - 1))


def test_feature_maps_are_those_of_the_paper_at_224() -> None:
    sizes: list[int] = []
    network = AlexNet(2, in_channels=3, width=0.0625).eval()
    for index in (0, 2, 5, 12):
        network.features[index].register_forward_hook(lambda *call: sizes.append(call[-1].shape[-1]))
    network(torch.zeros(1, 3, 224, 224))
    assert sizes == [55, 27, 13, 6]
