"""The processes of a search. Each takes one trial after another until there is none left.

``python -m medresnet3d.workflows.search_worker`` is such a process; it reads the search from its standard input.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

from medresnet3d.errors import DataError, MedResNetError
from medresnet3d.workflows.search_job import SearchJob
from medresnet3d.workflows.search_ledger import Ledger
from medresnet3d.workflows.search_trial import Status, TrialRun

POLL_S = 0.5
_MAX_DEATHS_IN_A_ROW = 3


def work(ledger: Ledger, status: Status, check: Callable[[], None], handed_in: Callable[[], object]) -> None:
    """Run trials until all of the search are finished, by whomever.

    Args:
        ledger: the trials of the search.
        status: called with a short text on what is going on.
        check: called now and then, from another thread.
        handed_in: called when a trial has been handed in, and now and then while this process waits for others.
    """
    while True:
        claimed = ledger.claim()
        if claimed is not None:
            trial, record = claimed
            TrialRun(ledger.job, ledger, trial, record, status, check).run()
        elif ledger.finished():
            return
        else:
            check()
            time.sleep(POLL_S)
        handed_in()


class Workers:
    """Several worker processes on this machine.

    Args:
        job: the search.
        count: number of processes.
    """

    def __init__(self, job: SearchJob, count: int) -> None:
        self.jobs = [replace(job, device=device) for device in _devices(job.device, count)]
        self.threads = max(1, (os.cpu_count() or 1) // count)
        self._processes: dict[int, subprocess.Popen[str]] = {}
        self._deaths = 0

    def start(self) -> None:
        """Start all processes."""
        for index in range(len(self.jobs)):
            self._start(index)

    def _start(self, index: int) -> None:
        # a session of its own, so that Ctrl-C reaches a worker once, from here, and not from the terminal as well
        process = subprocess.Popen(
            [sys.executable, "-m", "medresnet3d.workflows.search_worker", str(self.threads)],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdin is not None
        process.stdin.write(self.jobs[index].to_json())
        process.stdin.close()
        self._processes[index] = process

    def tend(self, progress_made: bool) -> bool:
        """Replace processes that have died; say whether any is still at work.

        Args:
            progress_made: whether a trial has come to its end since the last call.

        Raises:
            DataError: if processes die one after another without finishing anything.
        """
        self._deaths = 0 if progress_made else self._deaths
        for index, process in list(self._processes.items()):
            code = process.poll()
            if code is None:
                continue
            del self._processes[index]
            if code != 0:
                self._deaths += 1
                if self._deaths >= _MAX_DEATHS_IN_A_ROW * len(self.jobs):
                    raise DataError(
                        f"The search's processes die at once (exit code {code}); run it with --workers 1 to see why."
                    )
                self._start(index)
        return bool(self._processes)

    def stop(self) -> None:
        """Let each finish the step at hand and save; a second Ctrl-C ends them at once."""
        try:
            for process in self._processes.values():
                process.send_signal(signal.SIGINT)
            for process in self._processes.values():
                process.wait()
        except KeyboardInterrupt:
            self.kill()
            raise

    def kill(self) -> None:
        """End every process that is left."""
        for process in self._processes.values():
            process.kill()
            process.wait()


def _devices(device: str, count: int) -> list[str]:
    """Spread workers over the GPUs where there are several and none is named."""
    import torch

    gpus = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    return [f"cuda:{index % gpus}" if gpus > 1 else device for index in range(count)]


def _watch(parent: int) -> Callable[[], None]:
    """Give a check that ends this process like Ctrl-C, once, when the one that started it is dead."""
    told = False

    def check() -> None:
        nonlocal told
        if os.getppid() != parent and not told:
            told = True
            os.kill(os.getpid(), signal.SIGINT)

    return check


def main(threads: int) -> int:
    """Work at the search that standard input describes; return the exit code."""
    # what was started in the background by a shell would ignore it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        check = _watch(os.getppid())
        job = SearchJob.from_json(sys.stdin.read())
        import torch

        torch.set_num_threads(threads)
        work(Ledger(job), lambda text: None, check, lambda: None)
    except MedResNetError as error:
        print(f"Error: {error}", file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
