from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import SphereFaceLoss

from medresnet3d.losses.a_softmax import ASoftmaxLoss
from medresnet3d.losses.margin import MarginLoss
from tests.losses.base import CLASSES, FEATURES, MarginSuite
from tests.losses.toy import mean_angle


class TestASoftmaxLoss(MarginSuite):
    def build(self, **options: object) -> MarginLoss:
        return ASoftmaxLoss(**{"start": 1.0, "minimum": 0.0, **options})  # type: ignore[arg-type]

    @pytest.mark.parametrize("margin", [2, 3, 4])
    def test_agrees_with_pytorch_metric_learning(self, margin: int) -> None:
        features, weight = self.inputs()
        theirs = SphereFaceLoss(CLASSES, FEATURES, margin=margin)
        theirs.W.data = weight.T.clone()
        ours = self.build(margin=margin, start=0.0)
        torch.testing.assert_close(self.call(ours, (features, weight)), theirs(features, self.classes()))

    def test_the_length_of_the_weights_does_not_matter(self) -> None:
        features, weight = self.inputs()
        scaled = weight * torch.tensor([[0.1], [1.0], [20.0]])
        torch.testing.assert_close(
            self.call(self.build(), (features, weight)), self.call(self.build(), (features, scaled))
        )

    def test_a_margin_of_one_has_plain_angles(self) -> None:
        features, weight = self.inputs()
        expected = F.cross_entropy(features @ F.normalize(weight).T, self.classes())
        torch.testing.assert_close(self.call(self.build(margin=1), (features, weight)), expected)


def test_lambda_is_the_reference() -> None:
    values = ASoftmaxLoss().annealing(torch.tensor([0, 1, 100, 1000, 1658, 1659, 9999])).tolist()
    assert values[:4] == pytest.approx([1000, 892.857, 76.923, 8.264], abs=1e-3)
    assert values[4] > 5 and values[5:] == [5, 5]


def test_the_margin_narrows_the_classes() -> None:
    """The same training with the margin on and off: little more than half the angle."""
    assert mean_angle(ASoftmaxLoss(margin=4, start=10.0, gamma=0.2, minimum=1.0)) < 0.55 * mean_angle(
        ASoftmaxLoss(margin=1)
    )
