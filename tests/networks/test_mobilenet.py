from __future__ import annotations

from typing import Any

import pytest

from medresnet3d.networks.layers.choice import LayerChoice
from medresnet3d.networks.mobilenet import MobileNetV1, SeparableBlock
from tests.networks.base import ClassifierSuite


class TestMobileNetV1(ClassifierSuite):
    counts = (
        ({"spatial_dims": 2, "in_channels": 3, "num_classes": 1000, "width": 1.0}, 4_231_976),  # timm's
        ({"width": 1.0}, 3_298_306),
    )

    def build(self, spatial_dims: int = 3, width: float = 0.125, **options: Any) -> MobileNetV1:
        return MobileNetV1(spatial_dims, width=width, **options)


@pytest.mark.parametrize(("spatial_dims", "kernel"), [(2, 9), (3, 27)])
def test_separable_convolution_has_the_weights_of_the_formula(spatial_dims: int, kernel: int) -> None:
    block = SeparableBlock(LayerChoice(spatial_dims), 12, 20)
    weights = sum(p.numel() for p in [*block.conv_dw.parameters(), *block.conv_pw.parameters()])
    assert weights == 12 * kernel + 12 * 20
