from __future__ import annotations

import pytest
import torch

from medresnet3d.losses.margin import MarginLoss, cosine, length, unit, with_target
from tests.losses.base import MarginSuite


class TestMarginLoss(MarginSuite):
    """The base alone is the softmax loss without a bias."""

    def build(self, **options: object) -> MarginLoss:
        return MarginLoss(**options)  # type: ignore[arg-type]


def test_unit_vectors() -> None:
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-9, 0.0]], requires_grad=True)
    made = unit(vectors)
    torch.testing.assert_close(made, torch.tensor([[0.6, 0.8], [0, 0], [0, 0]]))
    made.sum().backward()
    assert torch.isfinite(vectors.grad).all() and not vectors.grad[1:].any()


def test_length_has_no_gradient_at_zero() -> None:
    vectors = torch.zeros(2, 3, requires_grad=True)
    length(vectors).sum().backward()
    assert not vectors.grad.any()


def test_cosine_and_replacing_the_target() -> None:
    cosines = cosine(torch.tensor([[3.0, 4.0]]), torch.eye(2))
    torch.testing.assert_close(cosines, torch.tensor([[0.6, 0.8]]))
    replaced = with_target(cosines, torch.tensor([1]), torch.tensor([-1.0]))
    assert replaced.tolist() == [[pytest.approx(0.6), -1.0]]
