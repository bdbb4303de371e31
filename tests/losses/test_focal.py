from __future__ import annotations

import math

import monai.losses
import pytest
import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.losses.focal import FocalLoss
from tests.losses.base import CLASSES, DenseLossSuite

ROWS = [(0.9, 0.00105361, 0.00026340), (0.5, 0.17328680, 0.04332170), (0.1, 1.86509393, 0.46627348)]


class TestFocalLoss(DenseLossSuite):
    def build(self, **options: object) -> nn.Module:
        return FocalLoss(**options)  # type: ignore[arg-type]


class TestFocalLossOfFractionalGamma(TestFocalLoss):
    def build(self, **options: object) -> nn.Module:
        return FocalLoss(gamma=0.5, alpha=0.25, **options)  # type: ignore[arg-type]


class TestSigmoidFocalLoss(TestFocalLoss):
    def build(self, **options: object) -> nn.Module:
        return FocalLoss(form="sigmoid", alpha=0.25, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("p", "value", "balanced"), ROWS)
def test_reference_values(p: float, value: float, balanced: float) -> None:
    logits, label = torch.log(torch.tensor([[1 - p, p]], dtype=torch.float64)), torch.tensor([1])
    assert float(FocalLoss()(logits, label)) == pytest.approx(value, abs=5e-9)
    assert float(FocalLoss(alpha=0.25)(logits, label)) == pytest.approx(balanced, abs=5e-9)
    logit = torch.tensor([[math.log(p / (1 - p))]], dtype=torch.float64)
    assert float(FocalLoss()(logit, label)) == pytest.approx(value, abs=5e-9)
    assert float(FocalLoss(alpha=0.25)(logit, label)) == pytest.approx(balanced, abs=5e-9)


def dense() -> tuple[torch.Tensor, torch.Tensor]:
    output = torch.randn(2, CLASSES, 4, 4, generator=torch.Generator().manual_seed(0))
    return output, torch.randint(CLASSES, (2, 1, 4, 4), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("alpha", [None, 0.25, [0.2, 0.3, 0.5]])
@pytest.mark.parametrize("form", ["softmax", "sigmoid"])
def test_agrees_with_monai_but_for_the_mean_over_classes(form: str, alpha: float | list[float] | None) -> None:
    theirs = monai.losses.FocalLoss(to_onehot_y=True, use_softmax=form == "softmax", alpha=alpha)
    torch.testing.assert_close(FocalLoss(form=form, alpha=alpha)(*dense()), CLASSES * theirs(*dense()))


def test_gamma_zero_is_cross_entropy() -> None:
    output, label = dense()
    torch.testing.assert_close(FocalLoss(gamma=0)(output, label), nn.CrossEntropyLoss()(output, label[:, 0]))


def test_impossible_options_are_named() -> None:
    with pytest.raises(ConfigError, match="form 'tanh' is unknown"):
        FocalLoss(form="tanh")
    with pytest.raises(ConfigError, match="gamma is -1"):
        FocalLoss(gamma=-1)
    with pytest.raises(ConfigError, match="alpha has 2 entries, but there are 3 logits"):
        FocalLoss(alpha=[0.5, 0.5])(*dense())
