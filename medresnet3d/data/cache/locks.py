"""Locks between processes that a killed process cannot leave behind."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_SECONDS = 0.02


@contextmanager
def file_lock(path: Path, timeout: float) -> Iterator[bool]:
    """Hold the lock ``path`` inside the block; other processes, and other threads of this one, wait for it.

    The lock is the operating system's (``flock``), so that it ends with the process that holds it, however that
    process ends. Where the file system or the platform has none, or the holder does not let go in ``timeout`` seconds,
    the block runs without it: whoever relies on the lock must at worst do some work twice.

    Args:
        path: a file that is made for this purpose and removed afterwards.
        timeout: longest time to wait, in seconds.

    Yields:
        whether the lock is held.
    """
    handle = _acquire(path, time.monotonic() + timeout)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            path.unlink(missing_ok=True)  # while it is held; whoever waits for it notices that the name is gone
            os.close(handle)


def _acquire(path: Path, deadline: float) -> int | None:
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        except OSError:
            return None
        state = _try_lock(handle)
        if state and _is_current(handle, path):
            return handle
        os.close(handle)
        if state is None or (state is False and time.monotonic() > deadline):
            return None
        if not state:
            time.sleep(POLL_SECONDS)


def _try_lock(handle: int) -> bool | None:
    """Whether the lock was free; ``None`` where there are no such locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_current(handle: int, path: Path) -> bool:
    """Whether the locked file is still the one of that name, and not one that its last holder has removed."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False
