from __future__ import annotations

import pytest

from medresnet3d.bundle.logging_files import inspect_logging
from tests.bundle.small_bundle import LOGGING


def test_usual_file_passes() -> None:
    assert inspect_logging("logging.conf", LOGGING.encode()) == []


@pytest.mark.parametrize(
    "line",
    [
        "args=()",
        "args=(sys.stderr,)",
        "args=('logs/run.log', 'a')",
        "kwargs={'delay': True}",
        "class=logging.FileHandler",
    ],
)
def test_plain_values_pass(line: str) -> None:
    assert inspect_logging("logging.conf", f"[handler_a]\n{line}\n".encode()) == []


@pytest.mark.parametrize(
    "line",
    [
        "args=(open('x', 'w'),)",
        "args=(sys.modules,)",
        "args=('/etc/x',)",
        "args=('../x',)",
        "args=('~/x',)",
        "args=(r'C:\\x',)",
        "args=[x for x in ()]",
        "args=(",
        "class=eval",
        "class=logging.os.system",
        "class=handlers.HTTPHandler",
        "level=%(evil)s",
    ],
)
def test_everything_else_is_named(line: str) -> None:
    findings = inspect_logging("logging.conf", f"[handler_a]\n{line}\n".encode())
    assert len(findings) == 1
    assert "handler_a" in findings[0].where


def test_unreadable_file_is_a_finding() -> None:
    assert inspect_logging("logging.conf", b"no section\n")
    assert inspect_logging("logging.conf", b"[a]\nb=\xff\n")
