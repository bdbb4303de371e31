"""A worker process of a comparison: ``python -m medresnet3d.workflows.compare_worker THREADS``.

It reads jobs from standard input, one JSON line each, and answers on standard output: ``{"ready": true}`` once it can
compute, ``{"step": [done, all]}`` now and then, ``{"finished": true}`` after each job. Whatever libraries print goes to
standard error. It ends with its input, at once where that closes while it computes, since its parent is gone then.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from typing import Any, TextIO

_INTERVAL = 0.5


class _Messages:
    """Lines to the parent process."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._sent = 0.0

    def send(self, message: dict[str, Any]) -> None:
        print(json.dumps(message), file=self._stream, flush=True)

    def step(self, done: int, steps: int) -> None:
        if time.monotonic() - self._sent >= _INTERVAL:
            self._sent = time.monotonic()
            self.send({"step": [done, steps]})


def _read_jobs(jobs: queue.Queue[str]) -> None:
    for line in sys.stdin:
        jobs.put(line)
    os._exit(0)


def _claim_output() -> TextIO:
    """Keep standard output for messages; what is printed goes to standard error from now on."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return stream


def main(threads: int) -> None:
    """Work until the parent ends it or closes standard input.

    Args:
        threads: number of threads that torch computes with.
    """
    messages = _Messages(_claim_output())
    jobs: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read_jobs, args=(jobs,), daemon=True).start()
    import torch

    from medresnet3d.workflows.compare_cell import run_cell
    from medresnet3d.workflows.compare_datasets import DatasetShelf
    from medresnet3d.workflows.compare_job import Job

    torch.set_num_threads(threads)
    shelf = DatasetShelf()
    messages.send({"ready": True})
    while True:
        run_cell(Job.from_json(jobs.get()), messages.step, shelf)
        messages.send({"finished": True})


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(130)
