from __future__ import annotations

import pytest
import torch
from torch import nn

from medresnet3d.losses.cross_entropy import CrossEntropyLoss
from tests.losses.base import DenseLossSuite


class TestCrossEntropyLoss(DenseLossSuite):
    def build(self, **options: object) -> nn.Module:
        return CrossEntropyLoss(**options)  # type: ignore[arg-type]


def test_is_torchs_bit_for_bit() -> None:
    output, label = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
    assert torch.equal(CrossEntropyLoss()(output, label), nn.CrossEntropyLoss()(output, label))
    ours = CrossEntropyLoss([1, 2, 3], label_smoothing=0.1)(output, label)
    assert torch.equal(ours, nn.CrossEntropyLoss(torch.tensor([1.0, 2, 3]), label_smoothing=0.1)(output, label))


def test_probabilities_as_target() -> None:
    output = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    target = torch.softmax(torch.randn(6, 3, generator=torch.Generator().manual_seed(1)), 1)
    assert torch.allclose(CrossEntropyLoss()(output, target), -(target * output.log_softmax(1)).sum(1).mean())


def test_a_single_logit_is_binary() -> None:
    output, label = torch.tensor([[0.5], [-1.0], [2.0]]), torch.tensor([1, 0, 0])
    expected = nn.BCEWithLogitsLoss(reduction="none")(output[:, 0], label.float())
    assert torch.allclose(CrossEntropyLoss()(output, label), expected.mean())
    weighted = (expected * torch.tensor([3.0, 1, 1])).sum() / 5
    assert torch.allclose(CrossEntropyLoss([1, 3])(output, label), weighted)
    smoothed = CrossEntropyLoss(label_smoothing=0.2)(output, label)
    two = CrossEntropyLoss(label_smoothing=0.2)(torch.cat([torch.zeros_like(output), output], 1), label)
    assert float(smoothed) == pytest.approx(float(two))
