from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medresnet3d.data import load_manifest
from medresnet3d.errors import ConfigError
from medresnet3d.progress import Progress
from medresnet3d.workflows import compare_pool
from medresnet3d.workflows.compare_cell import read_result
from medresnet3d.workflows.compare_job import Job
from medresnet3d.workflows.compare_pool import Pool, count_workers, run_here
from medresnet3d.workflows.compare_splits import write_split
from tests.workflows.toy_bundle import write_cubes, write_toy_bundle


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("cells")
    bundle = write_toy_bundle(folder / "toy_cubes")
    split = write_split(load_manifest(write_cubes(folder / "data", cases=32)), folder / "splits")
    return Job(str(bundle), str(split.outer), str(split.inner), {"checkpoint_seconds": 0}, 0, (8, "steps"), points=1)


def jobs(template: Job, folder: Path, count: int = 4) -> list[Job]:
    return [replace(template, seed=seed, folder=str(folder / f"arm_seed{seed}_0")) for seed in range(count)]


def results(done: list[Job]) -> list[dict[str, Any]]:
    found = [read_result(job) or {} for job in done]
    return [{name: value for name, value in one.items() if "seconds" not in name} for one in found]


@pytest.fixture(scope="module")
def alone(template: Job, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Results of one worker."""
    mine = jobs(template, tmp_path_factory.mktemp("alone"))
    with Progress("comparing", len(mine)) as progress:
        run_here(mine, 1, progress)
    assert progress.done == len(mine)
    return results(mine)


def children_in(folder: Path) -> Iterator[int]:
    """Processes whose log lies in the folder, which is open as their standard error."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                target = (entry / "fd" / "2").readlink()
            except OSError:
                continue
            if folder in target.parents:
                yield int(entry.name)


def test_two_workers_come_to_the_results_of_one(template: Job, alone: Any, tmp_path: Path) -> None:
    mine = jobs(template, tmp_path)
    with Progress("comparing", len(mine)) as progress, Pool(["cpu", "cpu"], 1, tmp_path / "logs") as pool:
        assert len(list(children_in(tmp_path / "logs"))) == 2
        pool.run(mine, progress)
    assert progress.done == len(mine)
    assert results(mine) == alone
    assert list(children_in(tmp_path / "logs")) == []


def test_a_killed_worker_is_replaced_and_its_cell_goes_on(template: Job, alone: Any, tmp_path: Path) -> None:
    mine = jobs(template, tmp_path, 2)
    killed: list[int] = []

    def kill_the_first() -> None:
        until = time.monotonic() + 60
        while not killed and time.monotonic() < until:
            if list(tmp_path.glob("*/checkpoints/last.pt")):  # in the middle of a training
                killed.extend(children_in(tmp_path / "logs"))
                os.kill(killed[0], signal.SIGKILL)
            time.sleep(0.005)

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    with Progress("comparing", len(mine)) as progress, Pool(["cpu"], 1, tmp_path / "logs") as pool:
        pool.run(mine, progress)
    killer.join()
    assert killed
    assert progress.done == len(mine)
    assert results(mine) == alone[:2]


def test_a_cell_that_kills_its_process_every_time_is_a_failed_row(
    template: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A stand-in that speaks the workers' language, since this is about the pool alone.
    script = """
import json, os, pathlib, sys
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    folder = pathlib.Path(json.loads(line)["folder"])
    if folder.name.startswith("bad"):
        os.kill(os.getpid(), 9)
    folder.mkdir()
    (folder / "result.json").write_text('{"metric": 1.0}')
    print(json.dumps({"finished": True}), flush=True)
"""
    monkeypatch.setattr(compare_pool, "WORKER", ("-c", script))
    good = jobs(template, tmp_path, 3)
    bad = replace(good[0], folder=str(tmp_path / "bad_seed0_0"))
    with Progress("comparing", 4) as progress, Pool(["cpu", "cpu"], 1, tmp_path / "logs") as pool:
        pool.run([good[0], bad, *good[1:]], progress)
    assert "ended twice (signal 9)" in (read_result(bad) or {})["error"]
    assert all(read_result(job) == {"metric": 1.0} for job in good)
    assert progress.done == 4


@pytest.mark.slow
def test_workers_end_with_the_parents_block_and_keep_their_state(template: Job, tmp_path: Path) -> None:
    (mine,) = jobs(template, tmp_path, 1)
    endless = replace(mine, budget=(100_000, "steps"))

    class Enough(KeyboardInterrupt):
        pass

    class Impatient(Progress):
        def advance(self, steps: int = 1, status: str | None = None) -> None:
            if status and "step" in status:
                raise Enough

    with pytest.raises(Enough), Pool(["cpu"], 1, tmp_path / "logs") as pool:
        pool.run([endless], Impatient("comparing", 1))
    assert list(children_in(tmp_path / "logs")) == []
    assert (Path(endless.folder) / "checkpoints" / "last.pt").is_file()
    assert read_result(endless) is None


def test_number_of_workers() -> None:
    assert count_workers(3, "cpu", 10) == (3, ["cpu"] * 3)
    assert count_workers("4", "cpu", 2) == (2, ["cpu"] * 2)
    assert count_workers("auto", "cpu", 100)[0] == len(os.sched_getaffinity(0))
    for wrong in ("many", 0, "-1"):
        with pytest.raises(ConfigError, match="give auto or a number"):
            count_workers(wrong, "cpu", 3)
