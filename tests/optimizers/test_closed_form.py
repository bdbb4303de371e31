from __future__ import annotations

import pytest

from medresnet3d.optimizers.closed_form import ClosedFormLR
from tests.optimizers.base import advance, make_optimizer


class HalvingLR(ClosedFormLR):
    def rate(self, step: int, initial: float) -> float:
        return initial * 0.5**step


def test_a_rate_that_is_changed_by_hand_stays_changed() -> None:
    optimizer = make_optimizer(0.8)
    schedule = HalvingLR(optimizer)
    assert [rate for (rate,) in advance(schedule, optimizer, 2)] == [0.8, 0.4, 0.2]
    optimizer.param_groups[0]["lr"] = 0.02
    assert [rate for (rate,) in advance(schedule, optimizer, 2)] == pytest.approx([0.02, 0.01, 0.005])


def test_begins_at_a_later_step() -> None:
    optimizer = make_optimizer(0.1)
    optimizer.param_groups[0]["initial_lr"] = 0.8
    schedule = HalvingLR(optimizer, last_epoch=2)
    assert schedule.last_epoch == 3
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)  # what was found, times the last step's ratio
