"""One progress display for everything that lasts: a bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")
PLAIN_INTERVAL_S = 5.0

_hidden: ContextVar[bool] = ContextVar("hidden_progress", default=False)


@contextmanager
def hide_progress() -> Iterator[None]:
    """Let the displays that begin inside the block show nothing, where an outer one shows the whole."""
    token = _hidden.set(True)
    try:
        yield
    finally:
        _hidden.reset(token)


class Progress:
    """Progress of one task, shown on standard error.

    Use it as a context manager and call :meth:`advance`. On a terminal it is a rich progress bar with the time left;
    elsewhere (log files, CI) it prints a plain line at most every five seconds and one at the end.

    Args:
        description: what is being done, e.g. ``"training"``.
        total: number of steps; ``None`` if unknown.
    """

    def __init__(self, description: str, total: int | None = None) -> None:
        self.description = description
        self.total = total
        self.done = 0
        self.status = ""
        self._started = time.monotonic()
        self._last_line = self._started
        self._bar: Any = None
        self._hidden = False

    def __enter__(self) -> Self:
        """Start the display."""
        self._started = self._last_line = time.monotonic()
        self._hidden = _hidden.get()
        if sys.stderr.isatty() and not self._hidden:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[status]}"),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task(self.description, total=self.total, status="")
        return self

    def advance(self, steps: int = 1, status: str | None = None) -> None:
        """Report that ``steps`` more steps are done; ``status`` is a short text such as ``"loss 0.31"``."""
        self.done += steps
        self.status = self.status if status is None else status
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, status=self.status)
        elif time.monotonic() - self._last_line >= PLAIN_INTERVAL_S:
            self._print_line()

    def _print_line(self) -> None:
        if self._hidden:
            return
        self._last_line = time.monotonic()
        elapsed = self._last_line - self._started
        count = f"{self.done}/{self.total}" if self.total else str(self.done)
        left = f", {elapsed / self.done * (self.total - self.done):.0f} s left" if self.total and self.done else ""
        status = f", {self.status}" if self.status else ""
        print(f"{self.description}: {count}, {elapsed:.0f} s{left}{status}", file=sys.stderr, flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the display."""
        if self._bar is not None:
            self._bar.stop()
        elif time.monotonic() - self._started >= PLAIN_INTERVAL_S:
            self._print_line()


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield ``items`` and show the progress through them.

    Args:
        items: what to go through.
        description: what is being done.
        total: number of items; taken from ``len(items)`` where it has one.
    """
    size = total if total is not None else (len(items) if isinstance(items, Sized) else None)
    with Progress(description, size) as progress:
        for item in items:
            yield item
            progress.advance()
