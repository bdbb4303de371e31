"""Three stages at once: one thread reads ahead, the caller's thread computes, one thread finishes; order is kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

C = TypeVar("C")
A = TypeVar("A")
B = TypeVar("B")
R = TypeVar("R")

IN_FLIGHT = 4


@dataclass(frozen=True)
class _Read:
    """A case that the first stage is done with; ``value`` is an exception where it failed."""

    case: Any
    value: Any


@dataclass(frozen=True)
class _Finished:
    value: Any


@dataclass(frozen=True)
class _Broken:
    """What ended a thread and ends the whole run."""

    error: BaseException


class _NoMoreCases:
    """The first stage has handed over its last case."""


class _End:
    """The last stage has finished its last case."""


class Pipeline(Generic[C, A, B, R]):
    """Runs cases through three stages that overlap in time and gives the results in the order of the cases.

    The first stage runs in a thread of its own, the second in the thread of the caller (a network belongs to one
    thread, and Ctrl-C reaches it there), the third in another thread. A case that raises an ``Exception`` in the first
    or second stage arrives at the third with that exception, and the others go on. What the third stage raises, and
    what is no ``Exception``, ends the run: it is raised to the caller after the cases that were computed before have
    been finished. The same holds for Ctrl-C and for an iteration that is given up.

    Args:
        read: from a case to what the second stage takes.
        compute: from there to what the third stage takes.
        finish: from a case and its computed value, or the exception of an earlier stage, to a result.
        in_flight: how many cases may be in memory at once, from the start of their reading to their result.
        start_thread: called first in both threads, for settings that are a thread's own.

    Example:
        >>> squares = Pipeline(int, lambda number: number**2, lambda case, value: f"{case} -> {value}")
        >>> list(squares.run(["2", "3"]))
        ['2 -> 4', '3 -> 9']
    """

    def __init__(
        self,
        read: Callable[[C], A],
        compute: Callable[[A], B],
        finish: Callable[[C, B | Exception], R],
        *,
        in_flight: int = IN_FLIGHT,
        start_thread: Callable[[], object] = lambda: None,
    ) -> None:
        self.read, self.compute, self.finish = read, compute, finish
        self.in_flight = in_flight
        self.start_thread = start_thread

    def run(self, cases: Iterable[C]) -> Generator[R, None, None]:
        """Yield the result of every case, in order.

        Raises:
            BaseException: what the third stage or the iteration over ``cases`` raised.
        """
        run = _Run(self, cases)
        try:
            yield from run.results()
        finally:
            run.stop()


class _Run(Generic[C, A, B, R]):
    """One pass of cases through a pipeline: its threads and what they hand to each other."""

    def __init__(self, stages: Pipeline[C, A, B, R], cases: Iterable[C]) -> None:
        self.stages = stages
        self.permits = threading.Semaphore(stages.in_flight)
        self.stopped = threading.Event()
        self.inbox: SimpleQueue[Any] = SimpleQueue()
        self.computed: SimpleQueue[_Read | _NoMoreCases] = SimpleQueue()
        self.reader = threading.Thread(target=self._read_all, args=(cases,), name="reading", daemon=True)
        self.finisher = threading.Thread(target=self._finish_all, name="finishing", daemon=True)
        self.reader.start()
        self.finisher.start()

    def results(self) -> Generator[R, None, None]:
        """Compute in this thread what has been read and yield what has been finished, whichever comes first."""
        while not isinstance(message := self.inbox.get(), _End):
            if isinstance(message, _Broken):
                raise message.error
            if isinstance(message, _Finished):
                yield message.value
            elif isinstance(message, _Read) and not isinstance(message.value, Exception):
                self.computed.put(_Read(message.case, _attempt(self.stages.compute, message.value)))
            else:
                self.computed.put(message)
            del message  # what was handed on must not stay in memory while the next one is waited for

    def stop(self) -> None:
        """Read nothing further and wait until what has been computed is finished."""
        self.stopped.set()
        self.permits.release()
        self.computed.put(_NoMoreCases())
        self.finisher.join()

    def _read_all(self, cases: Iterable[C]) -> None:
        try:
            self.stages.start_thread()
            for case in cases:
                self.permits.acquire()
                if self.stopped.is_set():
                    return
                self.inbox.put(_Read(case, _attempt(self.stages.read, case)))
            self.inbox.put(_NoMoreCases())
        except BaseException as error:
            self.inbox.put(_Broken(error))

    def _finish_all(self) -> None:
        try:
            self.stages.start_thread()
            while isinstance(entry := self.computed.get(), _Read):
                self.inbox.put(_Finished(self.stages.finish(entry.case, entry.value)))
                del entry
                self.permits.release()
            self.inbox.put(_End())
        except BaseException as error:
            self.inbox.put(_Broken(error))


def _attempt(function: Callable[[Any], Any], argument: Any) -> Any:
    """Give the function's result, or the exception that it raised."""
    try:
        return function(argument)
    except Exception as error:
        return error
