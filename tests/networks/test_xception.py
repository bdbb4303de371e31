from __future__ import annotations

from typing import Any

import pytest
import torch

from medresnet3d.networks.layers.choice import LayerChoice
from medresnet3d.networks.xception import SeparableConv, Xception, XceptionBlock
from tests.networks.base import ClassifierSuite


class TestXception(ClassifierSuite):
    counts = (
        (
            {"spatial_dims": 2, "in_channels": 3, "num_classes": 1000, "width": 1.0},
            22_855_952,
        ),  # timm's legacy_xception
        ({"width": 1.0}, 21_262_778),
    )

    def build(self, spatial_dims: int = 3, width: float = 0.0625, **options: Any) -> Xception:
        return Xception(spatial_dims, width=width, **options)


@pytest.mark.parametrize(("spatial_dims", "kernel"), [(2, 9), (3, 27)])
def test_separable_convolution_has_the_weights_of_the_formula(spatial_dims: int, kernel: int) -> None:
    layer = SeparableConv(LayerChoice(spatial_dims), 12, 20)
    assert sum(p.numel() for p in layer.parameters()) == 12 * kernel + 12 * 20


def test_block_does_not_change_its_input() -> None:
    """The first ReLU must not act in place, since the shortcut still needs the input."""
    block, image = XceptionBlock(LayerChoice(2), (4, 4, 4)).eval(), torch.randn(1, 4, 8, 8)
    before = image.clone()
    with torch.no_grad():
        output = block(image)
        expected = block.rep(image.clone()) + image
    assert torch.equal(image, before)
    assert torch.equal(output, expected)
