from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from medresnet3d.data.checking.parallel import AHEAD, default_workers, in_threads


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_results_come_in_order(batch: int) -> None:
    assert list(in_threads(lambda x: x * x, range(50), 4, batch)) == [(x, x * x) for x in range(50)]
    assert list(in_threads(lambda x: x, [], 2, batch)) == []


@pytest.mark.parametrize("batch", [1, 4])
def test_little_is_taken_before_it_is_wanted(batch: int) -> None:
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    results = in_threads(lambda x: x, endless(), 2, batch)
    for _ in range(10):
        next(results)
    assert taken <= 10 + batch * (AHEAD * 2 + 1)
    results.close()


def test_several_threads_work_at_once() -> None:
    meeting = threading.Barrier(2, timeout=20)
    assert len(list(in_threads(lambda x: meeting.wait(), range(4), 2))) == 4


def test_an_error_ends_it() -> None:
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda x: 1 // x, [1, 0, 2], 2))
    assert 1 <= default_workers() <= 8
