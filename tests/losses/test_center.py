from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from medresnet3d.losses.center import CenterLoss
from medresnet3d.losses.margin import MarginLoss
from medresnet3d.networks.heads.linear import LinearHead
from tests.losses.base import MarginSuite


class TestCenterLoss(MarginSuite):
    def build(self, **options: object) -> MarginLoss:
        return CenterLoss(**{"weight": 0.1, **options})  # type: ignore[arg-type]

    def plain(self) -> MarginLoss:
        return CenterLoss(weight=0.0).eval()


FEATURES = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
LABEL = torch.tensor([0, 0, 1])


def test_reference_value_and_update() -> None:
    loss, weight = CenterLoss(weight=1.0, reduction="sum"), torch.zeros(2, 2)
    value = loss(FEATURES, weight, LABEL, torch.zeros(2))
    softmax = 3 * torch.tensor(2.0).log()
    assert float(value - softmax) == pytest.approx(45.5, abs=1e-5)
    torch.testing.assert_close(loss.centers, torch.tensor([[2 / 3, 1.0], [1.25, 1.5]]))


def test_mean_keeps_the_balance_of_the_two_terms() -> None:
    total = CenterLoss(weight=0.01, reduction="sum")(FEATURES, torch.eye(2), LABEL)
    torch.testing.assert_close(CenterLoss(weight=0.01)(FEATURES, torch.eye(2), LABEL), total / 3)


def test_centres_follow_the_rule_whatever_the_optimizer_does() -> None:
    """Five steps of SGD with weight decay against the paper's rule, written with loops."""
    torch.manual_seed(0)
    body, head, loss = torch.nn.Linear(4, 2), LinearHead(2, 3), CenterLoss(weight=0.5, rate=0.3)
    loss.prepare(head)
    parameters = [*body.parameters(), *head.parameters(), *loss.parameters()]
    optimizer = torch.optim.SGD(parameters, 0.1, momentum=0.9, weight_decay=0.1)
    expected = torch.zeros(3, 2)
    for step in range(5):
        image, label = torch.randn(6, 4), torch.randint(0, 2 if step == 2 else 3, (6,))
        features = body(image)
        for j in range(3):
            own = [x for x, y in zip(features.detach(), label, strict=True) if y == j]
            delta = sum((expected[j] - x for x in own), torch.zeros(2)) / (1 + len(own))
            expected[j] = expected[j] - 0.3 * delta
        optimizer.zero_grad()
        loss.on_head(features, head, label).backward()
        optimizer.step()
        torch.testing.assert_close(loss.centers, expected)
    assert not loss.centers.requires_grad


def test_gradient_of_features_points_away_from_the_centre() -> None:
    loss = CenterLoss(weight=1.0, reduction="sum")
    loss(FEATURES, torch.zeros(2, 2), LABEL)
    before, features = loss.centers.clone(), FEATURES.clone().requires_grad_()
    loss(features, torch.zeros(2, 2), LABEL).backward()
    torch.testing.assert_close(features.grad, FEATURES - before[LABEL])


def test_evaluation_leaves_the_centres_alone() -> None:
    loss = CenterLoss()
    loss(FEATURES, torch.eye(2), LABEL)
    before = loss.centers.clone()
    loss.eval()(FEATURES, torch.eye(2), LABEL)
    assert torch.equal(loss.centers, before)


def test_features_gather_at_their_centres() -> None:
    """The special part on and off: the same softmax problem, with and without the pull to the centre."""

    def spread(weight: float) -> float:
        torch.manual_seed(0)
        label = torch.arange(60) % 3
        features = (torch.randn(60, 2) + 4 * torch.eye(3)[label][:, :2]).requires_grad_()
        head, loss = LinearHead(2, 3), CenterLoss(weight=weight)
        loss.prepare(head)
        optimizer = torch.optim.SGD([features, *head.parameters()], 1.0)
        for _ in range(200):
            optimizer.zero_grad()
            loss.on_head(features, head, label).backward()
            optimizer.step()
        assert F.cross_entropy(head(features), label) < 0.3
        return float(sum(features.detach()[label == j].var(0).sum() for j in range(3)))

    assert spread(0.5) < 0.3 * spread(0.0)


def test_state_of_another_size_does_not_load() -> None:
    loss = CenterLoss()
    loss(FEATURES, torch.eye(2), LABEL)
    other = CenterLoss()
    other(torch.ones(1, 3), torch.ones(4, 3), torch.tensor([0]))
    with pytest.raises(RuntimeError, match="size mismatch for centers"):
        other.load_state_dict(loss.state_dict())
