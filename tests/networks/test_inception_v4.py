from __future__ import annotations

from typing import Any

import pytest
import torch

from medresnet3d.networks.inception_v4 import InceptionV4
from tests.networks.base import ClassifierSuite


class TestInceptionV4(ClassifierSuite):
    size, odd_size = 40, (43, 41, 39)
    learning_rate = 1e-2
    counts = (({"spatial_dims": 2, "in_channels": 3, "num_classes": 1000, "width": 1.0}, 42_679_816),)

    def build(self, spatial_dims: int = 3, width: float = 0.0625, **options: Any) -> InceptionV4:
        return InceptionV4(spatial_dims, width=width, stem_stride=1, **options)


def test_feature_maps_are_those_of_the_paper_at_299() -> None:
    sizes: list[int] = []
    network = InceptionV4(2, in_channels=3, width=0.03125).eval()
    for index in (0, 2, 3, 4, 5, 9, 10, 17, 18, 21):
        network.features[index].register_forward_hook(lambda *call: sizes.append(call[-1].shape[-1]))
    network(torch.zeros(1, 3, 299, 299))
    assert sizes == [149, 147, 73, 71, 35, 35, 17, 17, 8, 8]


@pytest.mark.parametrize(("stride", "edge"), [(2, 75), (1, 39)])
def test_smallest_image(stride: int, edge: int) -> None:
    network = InceptionV4(2, width=0.03125, stem_stride=stride).eval()
    assert network(torch.zeros(1, 1, edge, edge)).shape == (1, 2)
    with pytest.raises(RuntimeError, match=r"[Kk]ernel size"):
        network(torch.zeros(1, 1, edge - 1, edge - 1))
