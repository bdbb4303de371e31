from __future__ import annotations

import pytest
import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.losses.hinge import HingeLoss
from tests.losses.base import DenseLossSuite

SCORES, LABEL = torch.tensor([[0.1, 0.2, 0.4, 0.8]]), torch.tensor([3])


class TestHingeLoss(DenseLossSuite):
    def build(self, **options: object) -> nn.Module:
        return HingeLoss(**options)  # type: ignore[arg-type]


class TestCrammerSinger(TestHingeLoss):
    def build(self, **options: object) -> nn.Module:
        return HingeLoss(over_classes="max", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("over", "value"), [("sum", 1.3), ("mean", 0.325), ("max", 0.6)])
def test_reference_values(over: str, value: float) -> None:
    assert float(HingeLoss(over_classes=over)(SCORES, LABEL)) == pytest.approx(value)


def test_mean_is_torchs_multi_margin_loss() -> None:
    output, label = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 4
    torch.testing.assert_close(HingeLoss(over_classes="mean")(output, label), nn.MultiMarginLoss()(output, label))


def test_binary() -> None:
    scores = torch.tensor([[0.3], [2.0], [-0.5], [0.5]])
    for label in (torch.tensor([1, 1, 0, 0]), torch.tensor([1, 1, -1, -1])):
        values = HingeLoss(reduction="none")(scores, label)
        torch.testing.assert_close(values, torch.tensor([0.7, 0.0, 0.5, 1.5]))
    weighted = HingeLoss(class_weights=[1, 3])(scores, torch.tensor([1, 1, 0, 0]))
    assert float(weighted) == pytest.approx((3 * 0.7 + 0.5 + 1.5) / 8)


def test_is_zero_once_the_margin_is_kept() -> None:
    assert float(HingeLoss()(torch.tensor([[2.5, 1.4, 0.0]]), torch.tensor([0]))) == 0.0
    assert float(HingeLoss(margin=2.0)(torch.tensor([[2.5, 1.4, 0.0]]), torch.tensor([0]))) == pytest.approx(0.9)


def test_unknown_form_is_named() -> None:
    with pytest.raises(ConfigError, match="over_classes 'all' is unknown; choose one of sum, mean, max"):
        HingeLoss(over_classes="all")
