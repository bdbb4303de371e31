from __future__ import annotations

from typing import Any

import pytest
import torch

from medresnet3d.networks.inception_v3 import InceptionV3
from tests.networks.base import ClassifierSuite

IMAGENET = {"spatial_dims": 2, "in_channels": 3, "num_classes": 1000, "width": 1.0}


class TestInceptionV3(ClassifierSuite):
    size, odd_size = 40, (43, 41, 39)
    counts = (
        (IMAGENET, 23_834_568),
        ({**IMAGENET, "auxiliary": True}, 27_161_264),
    )

    def build(self, spatial_dims: int = 3, width: float = 0.0625, **options: Any) -> InceptionV3:
        return InceptionV3(spatial_dims, width=width, stem_stride=1, **options)


def test_feature_maps_are_those_of_the_paper_at_299() -> None:
    sizes: dict[str, int] = {}
    network = InceptionV3(2, in_channels=3, width=0.03125).eval()
    for name, stage in network.features.named_children():
        stage.register_forward_hook(lambda *call, name=name: sizes.update({name: call[-1].shape[-1]}))
    network(torch.zeros(1, 3, 299, 299))
    named = ("Conv2d_1a_3x3", "Conv2d_2b_3x3", "maxpool1", "Conv2d_4a_3x3", "maxpool2", "Mixed_6e", "Mixed_7c")
    assert [sizes[name] for name in named] == [149, 147, 73, 71, 35, 17, 8]


@pytest.mark.parametrize(("stride", "edge"), [(2, 75), (1, 39)])
def test_smallest_image(stride: int, edge: int) -> None:
    network = InceptionV3(2, width=0.03125, stem_stride=stride).eval()
    assert network(torch.zeros(1, 1, edge, edge)).shape == (1, 2)
    with pytest.raises(RuntimeError, match=r"[Kk]ernel size"):
        network(torch.zeros(1, 1, edge - 1, edge - 1))


def test_auxiliary_head_speaks_in_training_only() -> None:
    torch.manual_seed(0)
    network = InceptionV3(2, num_classes=5, width=0.03125, auxiliary=True)
    image = torch.rand(2, 1, 299, 299)
    outputs = network.train()(image)
    assert [tuple(each.shape) for each in outputs] == [(2, 5)] * 2
    sum(each.square().sum() for each in outputs).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert network.eval()(image).shape == (2, 5)
