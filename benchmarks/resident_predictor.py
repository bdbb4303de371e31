"""How much a resident predictor saves: scans in a folder, answered by one process a scan or by one process for all.

    python benchmarks/resident_predictor.py --scans 20 --out RESULTS

Three ways to the same files (label maps, table, report), each timed from the start of its first process to the end of
its last:

* ``a process a scan``: ``medresnet3d infer BUNDLE SCAN -o OUT`` for one scan after the other;
* ``one after the other``: one process that keeps the bundle, but reads, computes and writes in turn;
* ``resident``: ``medresnet3d infer BUNDLE FOLDER -o OUT``, whose reading, network and writing overlap.

The scans are brain phantoms unless ``--data`` names a folder. All label maps must be equal. Processor seconds stand
beside the wall time, for machines that have other work to do. What has been measured is kept under ``--out``: an
interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from journal import Journal, in_turn, medians

from medresnet3d.io import load, save_nifti
from medresnet3d.io.atomic import atomic_write_text

COMMAND = [sys.executable, "-m", "medresnet3d", "infer"]
IN_TURN = """
import sys
from pathlib import Path
from medresnet3d.data.sources import inputs
from medresnet3d.workflows import infer
from medresnet3d.workflows.predictor import Predictor
bundle, folder, output = sys.argv[1:]
predictor = Predictor(bundle)
items = inputs(folder)
run = infer._Run(predictor, Path(output), None, several=len(items) > 1)
for item in items:
    run.answer(item, predictor(item))
run.finish()
"""


def make_scans(folder: Path, count: int, size: int) -> None:
    """Write brain phantoms as compressed NIfTI, those that are missing."""
    from medresnet3d.data.phantoms.brain import brain_phantom

    for number in range(count):
        path = folder / f"scan{number:03}.nii.gz"
        if not path.exists():
            phantom = brain_phantom(number, size)
            save_nifti(np.round(1000 * phantom.image).astype(np.int16), phantom.affine, path)


def timed_run(*command: str) -> dict[str, float]:
    """Run a command quietly; it must succeed. Give wall and processor seconds."""
    wall, cpu = time.perf_counter(), children_cpu()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return {"wall": time.perf_counter() - wall, "cpu": children_cpu() - cpu}


def children_cpu() -> float:
    """Processor seconds of all processes that this one has started and waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def a_process_a_scan(bundle: str, scans: Path, output: Path, journal: Journal) -> dict[str, float]:
    """Start a process for every scan."""
    parts = []
    for scan in sorted(scans.iterdir()):
        command = [*COMMAND, bundle, str(scan), "-o", str(output)]
        parts.append(journal.once(f"{output.name} {scan.name}", lambda command=command: timed_run(*command)))
    return {clock: sum(part[clock] for part in parts) for clock in ("wall", "cpu")}


def one_after_the_other(bundle: str, scans: Path, output: Path, _journal: Journal) -> dict[str, float]:
    """Keep the bundle in memory and do everything in turn."""
    shutil.rmtree(output, ignore_errors=True)  # of an interrupted run
    return timed_run(sys.executable, "-c", IN_TURN, bundle, str(scans), str(output))


def resident(bundle: str, scans: Path, output: Path, _journal: Journal) -> dict[str, float]:
    """Name the folder."""
    shutil.rmtree(output, ignore_errors=True)
    return timed_run(*COMMAND, bundle, str(scans), "-o", str(output))


WAYS: dict[str, Callable[[str, Path, Path, Journal], dict[str, float]]] = {
    "a process a scan": a_process_a_scan,
    "one after the other": one_after_the_other,
    "resident": resident,
}


def stage_sums(output: Path) -> dict[str, float]:
    """Seconds by stage over all cases of a run."""
    rows = [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]
    sums: dict[str, float] = {}
    for row in rows:
        for stage, seconds in row["stage_seconds"].items():
            sums[stage] = sums.get(stage, 0.0) + seconds
    return {stage: round(seconds, 2) for stage, seconds in sums.items()}


def measure(bundle: str, scans: Path, work: Path, repeats: int) -> dict[str, Any]:
    """Time every way in turn, ``repeats`` times, and compare the label maps."""
    journal = Journal(work)
    times: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
    folders = {name: work / name.replace(" ", "_") for name in WAYS}
    for name, repeat in in_turn(list(WAYS), repeats):
        output = folders[name].with_name(f"{folders[name].name}_{repeat}")
        way = WAYS[name]
        times[name].append(
            journal.once(f"{name} {repeat}", lambda way=way, output=output: way(bundle, scans, output, journal))
        )
        print(f"{name}: {times[name][-1]['wall']:.1f} s", flush=True)
    last = {name: folder.with_name(f"{folder.name}_{repeats - 1}") for name, folder in folders.items()}
    wall, cpu = (medians(times, clock) for clock in ("wall", "cpu"))
    peer = wall["a process a scan"]
    return {
        "work": "resident",
        "bundle": bundle,
        "date": time.strftime("%Y-%m-%d"),
        "scans": len(list(scans.iterdir())),
        "shape": list(load(min(scans.iterdir())).shape),
        "cores": len(os.sched_getaffinity(0)),
        "repeats": repeats,
        "wall_s": {name: round(value, 1) for name, value in wall.items()},
        "cpu_s": {name: round(value, 1) for name, value in cpu.items()},
        "ratio": {name: round(peer / value, 2) for name, value in wall.items()},
        "stages_s": {name: stage_sums(last[name]) for name in ("one after the other", "resident")},
        "equal_label_maps": equal_label_maps(*last.values()),
    }


def equal_label_maps(first: Path, *others: Path) -> bool:
    """Compare the label maps of several output folders voxel by voxel."""
    names = sorted(path.name for path in first.glob("*_seg.nii.gz"))
    return bool(names) and all(
        np.array_equal(load(first / name, constant_ok=True).array, load(other / name, constant_ok=True).array)
        for other in others
        for name in names
    )


def markdown(result: dict[str, Any]) -> str:
    """Give the result as a table."""
    shape = " x ".join(map(str, result["shape"]))
    lines = [
        f"{result['scans']} scans of {shape}, {result['cores']} cores; label maps equal: {result['equal_label_maps']}",
        "",
        "| way | wall, s | processor, s | times as fast |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {result['wall_s'][name]} | {result['cpu_s'][name]} | {result['ratio'][name]} |" for name in WAYS
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="brain_tissue_voxresnet")
    parser.add_argument("--data", type=Path, help="folder of scans instead of phantoms")
    parser.add_argument("--scans", type=int, default=20)
    parser.add_argument("--size", type=int, default=128, help="voxels along each axis of a phantom")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="folder for the figures and what was measured so far")
    options = parser.parse_args()
    what = options.data.name if options.data else f"phantoms{options.size}"
    work = options.out / "parts" / f"resident-{options.bundle}-{what}-{options.scans}"
    scans = work / "scans"
    scans.mkdir(parents=True, exist_ok=True)
    if options.data is None:
        make_scans(scans, options.scans, options.size)
    else:
        for source in sorted(options.data.iterdir())[: options.scans]:
            (scans / source.name).unlink(missing_ok=True)
            (scans / source.name).symlink_to(source.resolve())
    result = measure(options.bundle, scans, work, options.repeats)
    atomic_write_text(options.out / "resident.json", json.dumps(result, indent=1) + "\n")
    print(markdown(result))
    print(json.dumps(result["stages_s"]))


if __name__ == "__main__":
    main()
