from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from medresnet3d.data.cache.index import Index, Listed

WRITE = """
import sys
from pathlib import Path
from medresnet3d.data.cache.index import Index
index = Index(Path(sys.argv[1]), lambda: [])
for number in range(100):
    index.put(f"{sys.argv[2]}-{number}", 10, "set")
"""


def test_the_longest_unused_are_taken(tmp_path: Path) -> None:
    index = Index(tmp_path / "index", lambda: [Listed(f"k{i}", 10, "set", float(i)) for i in range(5)])
    assert [entry.key for entry in index.all()] == ["k0", "k1", "k2", "k3", "k4"]
    index.put("k0", 10, "set")
    assert index.take_oldest(30, keep="k1") == ["k2", "k3"]
    assert index.take_oldest(30, keep="k1") == []
    assert index.total() == 30
    index.remove(["k1", "unknown"])
    assert [entry.key for entry in index.all()] == ["k4", "k0"]


def test_processes_write_at_once_and_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "index"
    processes = [subprocess.Popen([sys.executable, "-c", WRITE, str(path), str(i)]) for i in range(3)]
    try:
        assert [process.wait(100) for process in processes] == [0, 0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait(20)
    index = Index(path, lambda: [])
    assert index.total() == 3000
    assert len(index.all()) == 300


def test_many_entries_are_listed_at_once(tmp_path: Path) -> None:
    """A coarse limit for a busy machine; the figure is in the benchmarks."""
    index = Index(tmp_path / "index", lambda: (Listed(f"{i:064x}", 10, "set", float(i)) for i in range(100_000)))
    index.total()
    start = time.process_time()
    assert len(index.all()) == 100_000
    assert time.process_time() - start < 5
