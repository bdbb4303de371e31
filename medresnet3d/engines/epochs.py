"""Lets the caller of a training follow its epochs, although the engine is built from a configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

EpochListener = Callable[[Mapping[str, float]], None]

_listener: ContextVar[EpochListener | None] = ContextVar("epoch_listener", default=None)


@contextmanager
def listen_to_epochs(listener: EpochListener) -> Iterator[None]:
    """Call ``listener`` after each epoch of the trainings inside the block.

    Args:
        listener: gets the epoch's row of ``metrics.csv``, when everything about the epoch is saved. An error that it
            raises ends the training.
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell_epoch(row: Mapping[str, float]) -> None:
    """Tell the listener, if there is one, about a finished epoch."""
    listener = _listener.get()
    if listener is not None:
        listener(row)
