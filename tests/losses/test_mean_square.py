from __future__ import annotations

import pytest
import torch
from torch import nn

from medresnet3d.errors import DataError
from medresnet3d.losses.mean_square import MeanSquareLoss
from tests.losses.base import DenseLossSuite


class TestMeanSquareLoss(DenseLossSuite):
    def build(self, **options: object) -> nn.Module:
        return MeanSquareLoss(**options)  # type: ignore[arg-type]


class TestMeanSquareLossOfOutputs(TestMeanSquareLoss):
    def build(self, **options: object) -> nn.Module:
        return MeanSquareLoss(probabilities=False, **options)  # type: ignore[arg-type]


def test_reference_value() -> None:
    assert float(MeanSquareLoss()(torch.tensor([[1.0], [2], [3]]), torch.zeros(3))) == pytest.approx(4.6667, abs=1e-4)


@pytest.mark.parametrize("shape", [(4, 1), (4, 3), (2, 3, 4, 4)])
def test_numbers_are_compared_as_torch_does(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    output, target = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    torch.testing.assert_close(MeanSquareLoss()(output, target), nn.MSELoss()(output, target))


def test_a_single_output_is_a_number_whatever_the_type_of_the_label() -> None:
    output, age = torch.tensor([[60.0], [70.0]]), torch.tensor([61, 73])
    assert float(MeanSquareLoss()(output, age)) == 5.0
    assert float(MeanSquareLoss()(output, age[:, None].double())) == 5.0


def test_probabilities_are_the_brier_score_over_the_number_of_classes() -> None:
    output, label = torch.log(torch.tensor([[0.7, 0.2, 0.1]])), torch.tensor([0])
    assert float(MeanSquareLoss()(output, label)) == pytest.approx((0.09 + 0.04 + 0.01) / 3)


def test_numbers_that_do_not_fit_are_named() -> None:
    with pytest.raises(DataError, match="give one number for each output"):
        MeanSquareLoss()(torch.zeros(3, 1), torch.zeros(4))
