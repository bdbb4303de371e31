from __future__ import annotations

from typing import Any

import pytest
import torch

from medresnet3d.networks.googlenet import GoogLeNet
from tests.networks.base import ClassifierSuite

IMAGENET = {"spatial_dims": 2, "in_channels": 3, "num_classes": 1000, "width": 1.0}


class TestGoogLeNet(ClassifierSuite):
    counts = (
        (IMAGENET, 6_624_904),
        ({**IMAGENET, "auxiliary": True}, 13_004_888),
    )

    def build(self, spatial_dims: int = 3, width: float = 0.0625, **options: Any) -> GoogLeNet:
        return GoogLeNet(spatial_dims, width=width, **options)


def test_feature_maps_are_those_of_the_paper_at_224() -> None:
    sizes: dict[str, int] = {}
    network = GoogLeNet(2, in_channels=3, width=0.0625).eval()
    for name, stage in network.features.named_children():
        stage.register_forward_hook(lambda *call, name=name: sizes.update({name: call[-1].shape[-1]}))
    network(torch.zeros(1, 3, 224, 224))
    assert [sizes[n] for n in ("conv1", "maxpool1", "maxpool2", "maxpool3", "maxpool4")] == [112, 56, 28, 14, 7]


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_auxiliary_heads_speak_in_training_only(spatial_dims: int) -> None:
    torch.manual_seed(0)
    network = GoogLeNet(spatial_dims, num_classes=5, width=0.0625, auxiliary=True)
    image = torch.rand(2, 1, *[32] * spatial_dims)
    outputs = network.train()(image)
    assert [tuple(each.shape) for each in outputs] == [(2, 5)] * 3
    sum(each.square().sum() for each in outputs).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert network.eval()(image).shape == (2, 5)


def test_the_main_output_in_training_is_that_without_heads() -> None:
    torch.manual_seed(0)
    with_heads = GoogLeNet(2, width=0.0625, auxiliary=True, dropout=0.0).train()
    plain = GoogLeNet(2, width=0.0625, dropout=0.0).train()
    plain.load_state_dict({n: t for n, t in with_heads.state_dict().items() if not n.startswith("auxiliary")})
    image = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(with_heads(image)[0], plain(image))
