from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from medresnet3d.data.cache.locks import file_lock
from tests.data.cache.samples import first_line

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")

HOLD = "import sys, time; from pathlib import Path\nfrom medresnet3d.data.cache.locks import file_lock\n"
HOLD += "with file_lock(Path(sys.argv[1]), 1) as held:\n    print(held, flush=True)\n    time.sleep(60)"


def holder(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert first_line(process) == "True"
    return process


def test_one_at_a_time(tmp_path: Path) -> None:
    inside, most = [0], [0]

    def work() -> None:
        for _ in range(20):
            with file_lock(tmp_path / "lock", 30) as held:
                assert held
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.0005)
                inside[0] -= 1

    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert most == [1]
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_no_lock_behind(tmp_path: Path) -> None:
    process = holder(tmp_path / "lock")
    try:
        with file_lock(tmp_path / "lock", 0.1) as held:
            assert not held
        os.kill(process.pid, signal.SIGKILL)
        process.wait(20)
        assert (tmp_path / "lock").exists()
        start = time.monotonic()
        with file_lock(tmp_path / "lock", 20) as held:
            assert held
        assert time.monotonic() - start < 5
    finally:
        process.kill()
        process.wait(20)


def test_without_a_folder_the_work_is_done_without_a_lock(tmp_path: Path) -> None:
    with file_lock(tmp_path / "missing" / "lock", 1) as held:
        assert not held
