"""Work in threads over any number of items, with a bounded number of them in memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
MOST_WORKERS = 8
AHEAD = 4
"""Batches that are handed out for each worker before the oldest result is asked for."""


def default_workers() -> int:
    """Number of threads: one a processor that this process may use, at most 8."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MOST_WORKERS, available))


def in_threads(function: Callable[[T], R], items: Iterable[T], workers: int, batch: int = 1) -> Iterator[tuple[T, R]]:
    """Yield each item with the function's result, in order, without ever holding more than a few of either.

    Reading, decompressing, decoding and hashing leave other threads free to run, so threads are enough.

    Args:
        function: what to do.
        items: what to do it with; taken as the work goes on.
        workers: number of threads.
        batch: items that are handed to a thread at once; more than one for work that is done in no time.
    """

    def do(chosen: list[T]) -> list[R]:
        return [function(item) for item in chosen]

    waiting: deque[tuple[list[T], Future[list[R]]]] = deque()
    left = iter(items)
    pool = ThreadPoolExecutor(max_workers=workers)
    try:
        while chosen := list(islice(left, batch)):
            waiting.append((chosen, pool.submit(do, chosen)))
            if len(waiting) >= AHEAD * workers:
                done, future = waiting.popleft()
                yield from zip(done, future.result(), strict=True)
        while waiting:
            done, future = waiting.popleft()
            yield from zip(done, future.result(), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)
