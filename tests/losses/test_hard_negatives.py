from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from medresnet3d.errors import ConfigError
from medresnet3d.losses import build_loss
from medresnet3d.losses.hard_negatives import HardNegativeLoss


def test_all_positives_and_the_hardest_negatives_count() -> None:
    logits = torch.tensor([2.0, -1.0, -5.0, 3.0, 0.5, -0.5], requires_grad=True)
    target = torch.tensor([1, 1, 0, 0, 0, 0])
    HardNegativeLoss(ratio=1.0)(logits, target).backward()
    assert logits.grad is not None
    assert (logits.grad != 0).tolist() == [True, True, False, True, True, False]


def test_all_negatives_are_plain_cross_entropy() -> None:
    logits, target = torch.randn(20, 1), torch.arange(20) % 3 == 0
    expected = functional.binary_cross_entropy_with_logits(logits[:, 0], target.float())
    torch.testing.assert_close(build_loss("hard_negatives", ratio=None)(logits, target), expected)
    torch.testing.assert_close(build_loss("hard_negatives", ratio=100.0)(logits, target), expected)


@given(positives=st.integers(0, 5), negatives=st.integers(0, 12), ratio=st.floats(0.1, 5), least=st.integers(1, 4))
def test_the_number_of_negatives_is_bounded(positives: int, negatives: int, ratio: float, least: int) -> None:
    if positives + negatives == 0:
        return
    logits = torch.linspace(-3, 3, positives + negatives, requires_grad=True)
    target = (torch.arange(positives + negatives) < positives).long()
    HardNegativeLoss(ratio, least)(logits, target).backward()
    assert logits.grad is not None
    used = int((logits.grad[positives:] != 0).sum())
    assert used == min(max(int(ratio * positives), least), negatives)
    assert bool((logits.grad[:positives] < 0).all())


@pytest.mark.parametrize("options", [{"ratio": 0.0}, {"ratio": -1.0}, {"least": 0}])
def test_what_means_nothing_is_refused(options: dict) -> None:
    with pytest.raises(ConfigError, match="ratio is"):
        HardNegativeLoss(**options)
