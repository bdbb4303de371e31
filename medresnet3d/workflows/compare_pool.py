"""Run the cells of a comparison in worker processes, each of which imports torch and MONAI once."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Self

from medresnet3d.errors import ConfigError
from medresnet3d.io.atomic import atomic_write_text
from medresnet3d.progress import Progress
from medresnet3d.workflows.compare_job import Job

#: How often a cell whose worker died is tried in one run of a comparison.
_TRIES = 2
#: What Python is started with for a worker.
WORKER = ("-m", "medresnet3d.workflows.compare_worker")
_POLL_SECONDS = 1.0
_GOODBYE_SECONDS = 30.0


def count_workers(wanted: int | str, device: str, cells: int) -> tuple[int, list[str]]:
    """Decide on the number of worker processes, and on which device each computes.

    Args:
        wanted: a number, or "auto": one for each GPU, or else one for each CPU core that this process may use.
        device: auto, cpu, cuda or cuda:N.
        cells: no more workers than cells.

    Raises:
        ConfigError: if ``wanted`` is neither, or the device is not on this machine.
    """
    from medresnet3d.engines.device import select_device

    first = select_device(device)
    devices = [str(first)]
    if first.type == "cuda" and device in ("auto", "cuda"):
        import torch

        devices = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if wanted == "auto":
        count = len(devices) if first.type == "cuda" else _cores()
    elif str(wanted).isdigit() and int(wanted) > 0:
        count = int(wanted)
    else:
        raise ConfigError(f"--workers {wanted}: give auto or a number of 1 or more.")
    count = max(1, min(count, cells))
    return count, [devices[i % len(devices)] for i in range(count)]


def _cores() -> int:
    """Number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Worker:
    """One worker process and the job that it has."""

    def __init__(self, number: int, device: str, threads: int, logs: Path) -> None:
        self.device = device
        self.job: Job | None = None
        self.step = ""
        logs.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        with (logs / f"worker_{number}.log").open("ab") as log:
            # a session of its own: Ctrl-C reaches the parent alone, which then tells its workers to save
            self.process = subprocess.Popen(
                [sys.executable, *WORKER, str(threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self._buffer = b""

    @property
    def output(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def give(self, job: Job) -> None:
        self.job, self.step = job, "starting"
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(job.as_json().encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            self.step = "gone"  # its output ends too, which is where this is dealt with

    def receive(self) -> list[dict[str, Any]] | None:
        """Give the messages that have come; ``None`` when the process has ended."""
        part = os.read(self.output.fileno(), 1 << 16)
        *lines, self._buffer = (self._buffer + part).split(b"\n")
        return [json.loads(line) for line in lines] if part else None

    def end(self, wait: float) -> None:
        """Let the process save what it can and end; after ``wait`` seconds end it."""
        self.process.terminate()
        try:
            self.process.wait(wait)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # of a job that was given to a process that had died
            self.process.stdin.close()
        self.output.close()


class Pool:
    """Worker processes that share out the cells of a comparison.

    Args:
        devices: the device of each worker.
        threads: number of threads of each worker.
        logs: folder for what the workers print.
    """

    def __init__(self, devices: Sequence[str], threads: int, logs: Path) -> None:
        self._devices, self._threads, self._logs = devices, threads, logs
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._tries: dict[str, int] = {}

    def __enter__(self) -> Self:
        """Start the workers."""
        for number in range(len(self._devices)):
            self._start(number)
        return self

    def __exit__(self, *_: object) -> None:
        """End the workers; one that trains saves its state first."""
        for worker in self._workers:
            worker.process.terminate()
        until = time.monotonic() + _GOODBYE_SECONDS
        for worker in self._workers:
            worker.end(max(0.1, until - time.monotonic()))
        self._selector.close()

    def _start(self, number: int) -> None:
        worker = _Worker(number, self._devices[number], self._threads, self._logs)
        self._workers[number : number + 1] = [worker]
        self._selector.register(worker.output, selectors.EVENT_READ, number)

    def run(self, jobs: Sequence[Job], progress: Progress) -> None:
        """Run the jobs; on return each has its result file.

        Args:
            jobs: what is to be computed, in order.
            progress: advanced by each finished job.
        """
        waiting = deque(jobs)
        for worker in self._workers:
            self._feed(worker, waiting)
        while any(worker.job for worker in self._workers):
            for key, _ in self._selector.select(_POLL_SECONDS):
                number = int(key.data)
                messages = self._workers[number].receive()
                if messages is None:
                    self._replace(number, waiting, progress)
                for message in messages or []:
                    self._note(self._workers[number], message, waiting, progress)
            progress.advance(0, self._status())

    def _feed(self, worker: _Worker, waiting: deque[Job]) -> None:
        worker.job = None
        if waiting:
            worker.give(replace(waiting.popleft(), device=worker.device))

    def _note(self, worker: _Worker, message: dict[str, Any], waiting: deque[Job], progress: Progress) -> None:
        if "step" in message:
            worker.step = "step {}/{}".format(*message["step"])
        if "finished" in message:
            progress.advance()
            self._feed(worker, waiting)

    def _replace(self, number: int, waiting: deque[Job], progress: Progress) -> None:
        """Deal with a worker that died: try its cell once more in a new one, or write down that it cannot be run."""
        dead = self._workers[number]
        self._selector.unregister(dead.output)
        dead.end(0.1)
        if dead.job is not None and not dead.job.result.is_file():
            folder = dead.job.folder
            self._tries[folder] = self._tries.get(folder, 0) + 1
            if self._tries[folder] < _TRIES:
                waiting.appendleft(dead.job)
            else:
                _record_death(dead.job, dead.process.returncode, self._logs / f"worker_{number}.log")
                progress.advance()
        elif dead.job is not None:
            progress.advance()
        dead.job = None
        if waiting:
            self._start(number)
            self._feed(self._workers[number], waiting)

    def _status(self) -> str:
        busy = [
            f"{Path(worker.job.folder).name.rpartition('_')[0]} {worker.step}" for worker in self._workers if worker.job
        ]
        return "; ".join(busy)


def _record_death(job: Job, code: int, log: Path) -> None:
    reason = f"signal {-code}" if code < 0 else f"exit code {code}"
    text = f"The process that computed this ended twice ({reason}); it may be out of memory: see {log}."
    atomic_write_text(job.result, json.dumps({"error": text}) + "\n")


def run_here(jobs: Sequence[Job], threads: int, progress: Progress) -> None:
    """Run the jobs in this process, one after the other.

    Args:
        jobs: what is to be computed.
        threads: number of threads that torch computes with meanwhile.
        progress: advanced by each finished job.
    """
    import torch

    from medresnet3d.workflows.compare_cell import run_cell
    from medresnet3d.workflows.compare_datasets import DatasetShelf

    shelf = DatasetShelf()
    before = torch.get_num_threads()
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, before)
        torch.set_num_threads(threads)
        for job in jobs:
            name = Path(job.folder).name.rpartition("_")[0]

            def report(done: int, steps: int, name: str = name) -> None:
                progress.advance(0, f"{name} step {done}/{steps}")

            run_cell(job, report, shelf)
            progress.advance()
