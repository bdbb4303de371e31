from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from medresnet3d.networks.attention_resnet import AttentionBlock, MultiScaleAttentionResNet
from medresnet3d.networks.layers.choice import LayerChoice
from tests.networks.base import ClassifierSuite


class TestMultiScaleAttentionResNet(ClassifierSuite):
    in_channels = 3
    odd_size = (19, 17, 18)
    size = 32
    counts: ClassVar[Any] = (
        ({"num_classes": 2}, 6_236_282),
        ({"num_classes": 2, "width": 0.5}, 1_562_786),
        ({"num_classes": 2, "attention": False}, 6_200_162),
    )

    def build(self, spatial_dims: int = 3, **options: Any) -> nn.Module:
        small = {"width": 0.25, "num_classes": 2, "blocks": 1}
        return MultiScaleAttentionResNet(spatial_dims, 3, **(options or small))


def test_each_scale_has_a_trunk_of_its_own() -> None:
    torch.manual_seed(0)
    network = MultiScaleAttentionResNet(2, 3, 1, width=0.25).eval()
    image = torch.rand(1, 3, 16, 16)
    features = network.feature_map(image)
    with torch.no_grad():
        other = image.clone()
        other[:, 1] = 0
        changed = (network.feature_map(other) != features).flatten(2).any(2)[0].unflatten(0, (3, -1)).any(1)
    assert changed.tolist() == [False, True, False]
    assert not torch.equal(network(image), network(image.flip(1)))


def test_the_block_weighs_its_residual_function_by_channel_and_by_place() -> None:
    torch.manual_seed(0)
    block = AttentionBlock(LayerChoice(2), 8, 8).eval()
    x = torch.rand(2, 8, 9, 9)
    with torch.no_grad():
        plain = block.bn2(block.conv2(block.act1(block.bn1(block.conv1(x)))))
        by_channel, weights = block.weighted(x)
        assert torch.allclose(block.residual(x), by_channel * weights)
        shares = by_channel / plain
        assert torch.allclose(shares, shares[..., :1, :1].expand_as(shares), rtol=1e-3)
        assert float(shares.min()) > 0 and float(shares.max()) < 1
        assert weights.shape == (2, 1, 9, 9) and 0 < float(weights.min()) < float(weights.max()) < 1


def test_attention_is_a_map_for_each_scale() -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 3, 16, 16)
    maps = MultiScaleAttentionResNet(2, 3, 1, width=0.25).eval().attention(image)
    assert maps.shape == (2, 3, 16, 16) and float(maps.min()) > 0 and float(maps.max()) < 1
    with pytest.raises(TypeError, match="without attention"):
        MultiScaleAttentionResNet(2, 3, 1, width=0.25, attention=False).attention(image)


def test_attention_costs_few_parameters() -> None:
    with_it, without = (
        sum(p.numel() for p in MultiScaleAttentionResNet(3, attention=on).parameters()) for on in (True, False)
    )
    assert without < with_it < 1.02 * without
