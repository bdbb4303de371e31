"""The suite that every learning-rate schedule passes; a schedule's own test says how it is made.

>>> class TestCosine(ScheduleSuite):
...     def build(self, optimizer):
...         return CosineDecayLR(optimizer, 20)
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import torch
from ignite.engine import Engine
from monai.handlers import LrScheduleHandler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ChainedScheduler, ConstantLR, LRScheduler, SequentialLR

STEPS = 30


def make_optimizer(*rates: float) -> Optimizer:
    return torch.optim.SGD([{"params": [torch.zeros(1)], "lr": rate} for rate in rates])


def advance(schedule: Any, optimizer: Optimizer, steps: int) -> Iterator[list[float]]:
    """Yield the rates of all groups, now and after each of the steps."""
    yield [float(group["lr"]) for group in optimizer.param_groups]
    for _ in range(steps):
        optimizer.step()
        schedule.step()
        yield [float(group["lr"]) for group in optimizer.param_groups]


class ScheduleSuite:
    """What holds for every schedule; 0.5 and 0.05 are the initial rates of two parameter groups."""

    scales: ClassVar[bool] = True  # a group with a tenth of the rate gets a tenth of it throughout
    sequential: ClassVar[bool] = True  # torch's SequentialLR can put something in front

    def build(self, optimizer: Optimizer) -> LRScheduler:
        """The schedule under test, with something happening in its first 30 steps."""
        raise NotImplementedError

    def curve(self, *rates: float) -> list[list[float]]:
        optimizer = make_optimizer(*rates)
        return list(advance(self.build(optimizer), optimizer, STEPS))

    @pytest.fixture(autouse=True)
    def _no_warnings(self) -> Iterator[None]:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", "The epoch parameter in `scheduler.step")  # torch's own SequentialLR
            yield

    def test_rates_are_finite_and_repeat(self) -> None:
        curve = self.curve(0.5)
        assert all(0 <= rate < 10 for (rate,) in curve)
        assert curve == self.curve(0.5)

    def test_several_parameter_groups(self) -> None:
        both = self.curve(0.5, 0.05)
        assert [first for first, _ in both] == [rate for (rate,) in self.curve(0.5)]
        if self.scales:
            assert [second for _, second in both] == pytest.approx([0.1 * first for first, _ in both])

    def test_last_lr_is_that_of_the_optimizer(self) -> None:
        optimizer = make_optimizer(0.5, 0.05)
        schedule = self.build(optimizer)
        for rates in advance(schedule, optimizer, STEPS):
            assert schedule.get_last_lr() == rates

    @pytest.mark.parametrize("done", [0, 1, 7, 20])
    def test_a_saved_schedule_goes_on_as_an_unbroken_one(self, done: int) -> None:
        whole = self.curve(0.5, 0.05)
        optimizer = make_optimizer(0.5, 0.05)
        schedule = self.build(optimizer)
        list(advance(schedule, optimizer, done))
        file = io.BytesIO()
        torch.save({"schedule": schedule.state_dict(), "optimizer": optimizer.state_dict()}, file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
        fresh = make_optimizer(0.5, 0.05)
        resumed = self.build(fresh)
        fresh.load_state_dict(saved["optimizer"])
        resumed.load_state_dict(saved["schedule"])
        assert list(advance(resumed, fresh, STEPS - done)) == whole[done:]

    def test_state_is_plain_numbers(self) -> None:
        optimizer = make_optimizer(0.5, 0.05)
        schedule = self.build(optimizer)
        list(advance(schedule, optimizer, 3))
        state = schedule.state_dict()
        assert json.loads(json.dumps(state)) == state

    def test_in_monais_handler(self) -> None:
        optimizer = make_optimizer(0.5)
        schedule = self.build(optimizer)
        rates: list[float] = []

        def iterate(engine: Engine, batch: Any) -> None:
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()

        engine = Engine(iterate)
        LrScheduleHandler(schedule, print_lr=False, epoch_level=False).attach(engine)
        engine.run([None] * 10, max_epochs=3)
        assert rates == [rate for (rate,) in self.curve(0.5)][:STEPS]

    def test_after_another_one_in_torchs_sequence(self) -> None:
        if not self.sequential:
            pytest.skip("it does not begin anew at a given step")
        optimizer = make_optimizer(0.5)
        first = ConstantLR(optimizer, factor=0.5, total_iters=100)
        sequence = SequentialLR(optimizer, [first, self.build(optimizer)], milestones=[5])
        rates = [rate for (rate,) in advance(sequence, optimizer, STEPS)]
        assert rates == [0.25] * 5 + [rate for (rate,) in self.curve(0.5)][: STEPS - 4]


class ClosedFormSuite(ScheduleSuite):
    """What holds besides where the value depends on the step alone."""

    def test_value_depends_on_the_step_alone(self) -> None:
        schedule: Any = self.build(make_optimizer(0.5))
        curve = [rate for (rate,) in self.curve(0.5)]
        assert [schedule.rate(step, 0.5) for step in reversed(range(STEPS + 1))] == curve[::-1]

    def test_chained_with_another_one_the_factors_multiply(self) -> None:
        optimizer = make_optimizer(0.5)
        chain = ChainedScheduler([ConstantLR(optimizer, factor=0.5, total_iters=10), self.build(optimizer)])
        rates = [rate for (rate,) in advance(chain, optimizer, STEPS)]
        expected = [rate * (0.5 if step < 10 else 1) for step, (rate,) in enumerate(self.curve(0.5))]
        assert rates == pytest.approx(expected)
