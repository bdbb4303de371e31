from __future__ import annotations

from typing import Any

from torch import nn

from medresnet3d.networks.densenet import DenseNetClassifier
from tests.networks.base import ClassifierSuite


class TestDenseNetClassifier(ClassifierSuite):
    counts = (
        ({"spatial_dims": 2, "in_channels": 3, "num_classes": 1000, "width": 1.0}, 7_978_856),  # torchvision's
        ({"spatial_dims": 2, "in_channels": 3, "width": 1.0}, 6_955_906),
        ({"spatial_dims": 3, "width": 1.0}, 11_244_674),
    )

    def build(self, spatial_dims: int = 3, width: float = 0.0625, **options: Any) -> DenseNetClassifier:
        return DenseNetClassifier(spatial_dims, width=width, **options)

    def seeded(self, spatial_dims: int, seed: int = 0) -> nn.Module:
        """Seed 0 gives 3D logits that cancel to 0.003, so that a bf16 error relative to them says nothing."""
        return super().seeded(spatial_dims, seed + 1)


def test_stem_stride_keeps_detail() -> None:
    assert DenseNetClassifier(3, width=0.0625).features.conv0.stride == (2, 2, 2)
    assert DenseNetClassifier(3, width=0.0625, stem_stride=1).features.conv0.stride == (1, 1, 1)
