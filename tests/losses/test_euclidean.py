from __future__ import annotations

import pytest
import torch
from torch import nn

from medresnet3d.losses.euclidean import EuclideanLoss
from medresnet3d.losses.mean_square import MeanSquareLoss
from tests.losses.base import LossSuite


class TestEuclideanLoss(LossSuite):
    def build(self, **options: object) -> nn.Module:
        return EuclideanLoss(**options)  # type: ignore[arg-type]


def test_reference_value() -> None:
    assert float(EuclideanLoss()(torch.tensor([[1.0], [2], [3]]), torch.zeros(3))) == pytest.approx(2.3333, abs=1e-4)


@pytest.mark.parametrize("shape", [(4, 1), (4, 3), (2, 3, 4, 4)])
def test_is_half_the_numbers_of_a_sample_times_the_mean_square(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    output, target = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    half = output[0].numel() / 2
    torch.testing.assert_close(EuclideanLoss()(output, target), half * MeanSquareLoss()(output, target))
    total = 0.5 * (output - target).square().sum()
    torch.testing.assert_close(EuclideanLoss(reduction="sum")(output, target), total)
    torch.testing.assert_close(EuclideanLoss()(output, target), total / len(output))


def test_dense_classes() -> None:
    output = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    label = torch.randint(3, (2, 1, 4, 4), generator=torch.Generator().manual_seed(1))
    expected = 3 * 16 / 2 * MeanSquareLoss([1, 2, 3])(output, label)
    torch.testing.assert_close(EuclideanLoss([1, 2, 3])(output, label), expected)
