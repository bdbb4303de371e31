from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from medresnet3d.workflows.pipeline import Pipeline


class Thing:
    """Something that can be watched for being forgotten."""


def show(case: Any, value: Any) -> tuple[Any, Any]:
    return case, value


def test_order_is_kept_and_errors_travel_with_their_case() -> None:
    def read(case: int) -> int:
        if case == 2:
            raise ValueError("not read")
        return case * 10

    def compute(value: int) -> int:
        if value == 40:
            raise ArithmeticError("not computed")
        return value + 1

    results = list(Pipeline(read, compute, show).run(range(6)))
    assert [case for case, _ in results] == list(range(6))
    assert [value for case, value in results if case not in (2, 4)] == [1, 11, 31, 51]
    assert str(results[2][1]) == "not read" and str(results[4][1]) == "not computed"
    assert isinstance(results[2][1], ValueError) and isinstance(results[4][1], ArithmeticError)


def test_the_three_stages_overlap() -> None:
    """Each stage waits until the other two are at work on their neighbours; one after the other, this would fail."""
    meeting = threading.Barrier(3, timeout=20)

    def stage(number: int) -> Callable[..., Any]:
        # case n is in stage s while n + s is the same, so cases 2, 1 and 0 meet in stages 0, 1 and 2
        def work(case: int, *_: Any) -> int:
            if case + number == 2:
                meeting.wait()
            return case

        return work

    assert list(Pipeline(stage(0), stage(1), stage(2)).run(range(3))) == [0, 1, 2]


def test_threads() -> None:
    seen: dict[str, threading.Thread] = {}
    started: list[str] = []

    def note(name: str) -> None:
        seen[name] = threading.current_thread()

    stages: Pipeline[int, None, None, None] = Pipeline(
        lambda case: note("read"),
        lambda value: note("compute"),
        lambda case, value: note("finish"),
        start_thread=lambda: started.append(threading.current_thread().name),
    )
    assert list(stages.run([0])) == [None]
    assert seen["compute"] is threading.current_thread()
    assert len(set(seen.values())) == 3 and sorted(started) == ["finishing", "reading"]
    assert not seen["finish"].is_alive()


@pytest.mark.parametrize("in_flight", [1, 2, 5])
def test_no_more_cases_are_in_memory_than_allowed(in_flight: int) -> None:
    alive: weakref.WeakSet[Thing] = weakref.WeakSet()
    most = 0

    def read(_: int) -> Thing:
        nonlocal most
        thing = Thing()
        alive.add(thing)
        most = max(most, len(alive))
        return thing

    assert len(list(Pipeline(read, lambda thing: thing, lambda case, thing: case, in_flight=in_flight).run(range(20))))
    assert 1 <= most <= in_flight


def finished_after(error: BaseException, where: str) -> list[int]:
    """Raise ``error`` while case 3 is in one stage; give the cases that the last stage saw."""
    seen: list[int] = []

    def raising(name: str) -> Callable[[int], int]:
        def work(case: int) -> int:
            if (name, case) == (where, 3):
                raise error
            return case

        return work

    def finish(case: int, value: int | Exception) -> None:
        assert value == case
        raising("finish")(case)
        seen.append(case)

    with pytest.raises(type(error), match="stop here"):
        for _ in Pipeline(raising("read"), raising("compute"), finish).run(range(10)):
            continue
    return seen


@pytest.mark.parametrize("where", ["compute", "read", "finish"])
def test_ctrl_c_leaves_what_was_computed_before_finished(where: str) -> None:
    assert finished_after(KeyboardInterrupt("stop here"), where) == [0, 1, 2]


def test_an_error_of_the_last_stage_ends_the_run() -> None:
    assert finished_after(OSError("stop here"), "finish") == [0, 1, 2]


def test_an_error_of_the_source_of_cases_ends_the_run() -> None:
    def cases() -> Iterator[int]:
        yield 0
        raise RuntimeError("no more")

    stages: Pipeline[int, int, int, Any] = Pipeline(lambda case: case, lambda value: value, show)
    with pytest.raises(RuntimeError, match="no more"):
        list(stages.run(cases()))


def test_an_iteration_that_is_given_up_stops_the_threads() -> None:
    read: list[int] = []
    before = threading.active_count()
    stages: Pipeline[int, None, None, Any] = Pipeline(read.append, lambda _: None, show, in_flight=2)
    results = stages.run(range(1000))
    assert next(results) == (0, None)
    results.close()
    for thread in threading.enumerate():
        if thread.name == "reading":
            thread.join(20)
    assert threading.active_count() == before and len(read) < 10


def test_nothing_to_do() -> None:
    assert list(Pipeline(str, str, show).run([])) == []
