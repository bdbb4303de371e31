from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import LargeMarginSoftmaxLoss

from medresnet3d.losses.l_softmax import LSoftmaxLoss
from medresnet3d.losses.margin import MarginLoss
from tests.losses.base import CLASSES, FEATURES, MarginSuite
from tests.losses.toy import mean_angle


class TestLSoftmaxLoss(MarginSuite):
    def build(self, **options: object) -> MarginLoss:
        return LSoftmaxLoss(**{"margin": 4, "start": 1.0, **options})  # type: ignore[arg-type]

    @pytest.mark.parametrize("margin", [2, 3, 4])
    def test_agrees_with_pytorch_metric_learning(self, margin: int) -> None:
        features, weight = self.inputs()
        theirs = LargeMarginSoftmaxLoss(CLASSES, FEATURES, margin=margin)
        theirs.W.data = weight.T.clone()
        ours = self.build(margin=margin, start=0.0)
        torch.testing.assert_close(self.call(ours, (features, weight)), theirs(features, self.classes()))

    def test_a_margin_of_one_is_the_softmax_loss(self) -> None:
        features, weight = self.inputs()
        expected = F.cross_entropy(features @ weight.T, self.classes())
        torch.testing.assert_close(self.call(self.build(margin=1), (features, weight)), expected)

    def test_the_margin_makes_it_harder(self) -> None:
        inputs = self.inputs()
        values = [float(self.call(self.build(margin=m, start=0.0), inputs)) for m in (1, 2, 3, 4)]
        assert values == sorted(values) and values[0] < values[-1]


def test_lambda_falls_geometrically_to_its_floor() -> None:
    loss = LSoftmaxLoss(minimum=5.0)
    steps = torch.tensor([0, 1, 100, 1000])
    assert loss.annealing(steps).tolist() == pytest.approx([100, 99, 100 * 0.99**100, 5])


def test_each_training_call_is_a_step_and_evaluation_is_none() -> None:
    loss = LSoftmaxLoss()
    for _ in range(3):
        loss(torch.ones(1, 2), torch.eye(2), torch.tensor([0]))
    loss.eval()(torch.ones(1, 2), torch.eye(2), torch.tensor([0]))
    assert int(loss.step) == 3


def test_a_large_lambda_is_nearly_the_softmax_loss() -> None:
    features, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 1.0], [2.0, -1.0]])
    value = LSoftmaxLoss(margin=4, start=1e6)(features, weight, torch.tensor([1]))
    torch.testing.assert_close(value, F.cross_entropy(features @ weight.T, torch.tensor([1])), atol=1e-4, rtol=0)


def test_the_margin_narrows_the_classes() -> None:
    """The same training with the margin on and off: little more than half the angle."""
    assert mean_angle(LSoftmaxLoss(margin=4, start=10.0, decay=0.95)) < 0.55 * mean_angle(LSoftmaxLoss(margin=1))
