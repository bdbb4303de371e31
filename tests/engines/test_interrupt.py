from __future__ import annotations

import os
import signal
import threading

import pytest

from medresnet3d.engines.interrupt import InterruptGuard


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_second_acts(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    guard = InterruptGuard()
    guard.install()
    assert signal.getsignal(number) != before
    os.kill(os.getpid(), number)
    assert guard.requested
    assert signal.getsignal(number) is before


def test_removed_without_a_signal() -> None:
    before = signal.getsignal(signal.SIGINT)
    guard = InterruptGuard()
    guard.install()
    guard.remove()
    assert signal.getsignal(signal.SIGINT) is before
    assert not guard.requested


def test_in_another_thread_nothing_is_installed() -> None:
    before = signal.getsignal(signal.SIGINT)
    guard = InterruptGuard()
    thread = threading.Thread(target=guard.install)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before
