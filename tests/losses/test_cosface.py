from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import CosFaceLoss as TheirCosFaceLoss

from medresnet3d.errors import ConfigError
from medresnet3d.losses.cosface import CosFaceLoss, smallest_scale
from medresnet3d.losses.margin import MarginLoss
from tests.losses.base import CLASSES, FEATURES, MarginSuite
from tests.losses.toy import mean_angle


class TestCosFaceLoss(MarginSuite):
    def build(self, **options: object) -> MarginLoss:
        return CosFaceLoss(**options)  # type: ignore[arg-type]

    @pytest.mark.parametrize(("scale", "margin"), [(64.0, 0.35), (10.0, 0.1)])
    def test_agrees_with_pytorch_metric_learning(self, scale: float, margin: float) -> None:
        features, weight = self.inputs()
        theirs = TheirCosFaceLoss(CLASSES, FEATURES, margin=margin, scale=scale)
        theirs.W.data = weight.T.clone()
        ours = self.build(margin=margin, scale=scale)
        torch.testing.assert_close(self.call(ours, (features, weight)), theirs(features, self.classes()))

    def test_without_margin_and_scale_it_is_a_normalised_softmax(self) -> None:
        features, weight = self.inputs()
        expected = F.cross_entropy(F.normalize(features) @ F.normalize(weight).T, self.classes())
        torch.testing.assert_close(self.call(self.build(scale=1.0, margin=0.0), (features, weight)), expected)


@pytest.mark.parametrize(
    ("scale", "label", "value"), [(64, 0, 35.2), (64, 1, 9.600068), (30, 0, 16.5), (30, 1, 4.511048)]
)
def test_reference_values(scale: float, label: int, value: float) -> None:
    features = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    loss = CosFaceLoss(scale)(features, torch.eye(2, dtype=torch.float64), torch.tensor([label]))
    assert float(loss) == pytest.approx(value, abs=5e-7)


@pytest.mark.parametrize(("classes", "scale"), [(2, 1.0986), (7, 3.41913)])
def test_smallest_scale(classes: int, scale: float) -> None:
    assert smallest_scale(classes) == pytest.approx(scale, abs=5e-5)


def test_scale_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="scale is 0"):
        CosFaceLoss(0)


def test_the_margin_narrows_the_classes() -> None:
    """The same training with the margin on and off: little more than half the angle."""
    assert mean_angle(CosFaceLoss(scale=10.0, margin=0.7)) < 0.55 * mean_angle(CosFaceLoss(scale=10.0, margin=0.0))
