from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.losses.l2_softmax import L2SoftmaxLoss, smallest_alpha
from medresnet3d.losses.margin import MarginLoss
from medresnet3d.networks.heads.linear import LinearHead
from tests.losses.base import MarginSuite


class TestL2SoftmaxLoss(MarginSuite):
    def build(self, **options: object) -> MarginLoss:
        return L2SoftmaxLoss(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("label", "value"), [(1, 0.0399533), (0, 3.2399533)])
def test_reference_values(label: int, value: float) -> None:
    features = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    loss = L2SoftmaxLoss(16)(features, torch.eye(2, dtype=torch.float64), torch.tensor([label]))
    assert float(loss) == pytest.approx(value, abs=5e-7)


@pytest.mark.parametrize(("classes", "alpha"), [(3, 2.1972), (7, 3.8067), (1000, 9.1030)])
def test_smallest_alpha(classes: int, alpha: float) -> None:
    assert smallest_alpha(classes) == pytest.approx(alpha, abs=5e-5)


def test_there_is_no_bound_for_two_classes() -> None:
    with pytest.raises(ConfigError, match="at least 3 classes, not 2"):
        smallest_alpha(2)


def test_length_of_features_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="alpha is 0"):
        L2SoftmaxLoss(0)


def learning_head(start: float) -> LinearHead:
    torch.manual_seed(0)
    head = LinearHead(5, 3)
    head.learn_feature_scale(start)
    return head


def test_a_learned_alpha_is_that_of_the_last_layer() -> None:
    head, loss = learning_head(4.0), L2SoftmaxLoss(learned=True)
    features, label = torch.randn(6, 5, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 3
    loss.prepare(head)
    value = loss.on_head(features, head, label)
    torch.testing.assert_close(value, F.cross_entropy(head(features), label))
    value.backward()
    ours = head.feature_scale.grad.clone()
    head.zero_grad()
    F.cross_entropy(head(features), label).backward()
    torch.testing.assert_close(ours, head.feature_scale.grad)
    # the same direction as the common length of the weights: a learned alpha adds no function
    torch.testing.assert_close(ours, (head.weight.grad * head.weight).sum() / 4.0)


@pytest.mark.parametrize(("head", "learned"), [(nn.Linear(5, 3), True), (learning_head(4.0), False)])
def test_a_last_layer_that_does_not_fit_is_named(head: nn.Module, learned: bool) -> None:
    head = LinearHead(5, 3) if learned else head
    with pytest.raises(ConfigError, match="learn_feature_scale"):
        L2SoftmaxLoss(learned=learned).prepare(head)  # type: ignore[arg-type]
