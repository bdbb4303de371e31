"""How much memory and time `medresnet3d data check` takes for long tables.

    python benchmarks/check_cohort.py --rows 10000 100000 1000000 --output results

Two tables are made here for each number of rows. "points" lists points of 500 small scans, all sound, as a table of
lung nodule candidates does; "lost" lists as many different files, none of which is there, so that there are as many
findings as rows. Each is checked in a process of its own; the peak of resident memory is that of the process, with
what the interpreter and the libraries take.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

from medresnet3d.io.atomic import atomic_write_text

SCANS = 500
KINDS = ("points", "lost")
CHECK = """
import json, resource, sys, time
from medresnet3d.workflows.check_data import check_data
started = time.perf_counter()
result = check_data(sys.argv[1])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"mib": peak / 1024, "seconds": time.perf_counter() - started, "errors": result.errors,
                  "warnings": result.warnings, "findings_kept": len(result.findings),
                  "entries": sum(sizes["entries"] for sizes in result.sections.values())}))
"""


def write_scans(folder: Path) -> None:
    """Write small scans, each different."""
    for number in range(SCANS):
        voxels = np.random.default_rng(number).integers(-1000, 400, (8, 8, 8)).astype(np.int16)
        nib.loadsave.save(nib.nifti1.Nifti1Image(voxels, np.eye(4)), folder / f"scan{number}.nii")


def write_table(path: Path, kind: str, rows: int) -> None:
    """Write a table with five folds in which no patient is torn apart."""
    with path.open("w", encoding="utf-8") as handle:
        handle.write("image,label,patient,fold,position\n")
        for row in range(rows):
            scan = row % SCANS if kind == "points" else row
            image = f"scan{scan}.nii" if kind == "points" else f"lost/scan{scan}.nii"
            handle.write(f"{image},{'yes' if row % 3 else 'no'},patient{scan},{scan % 5},{row % 97} {row} 1\n")


def measure(path: Path) -> dict[str, float]:
    """Check a table in a fresh process."""
    done = subprocess.run([sys.executable, "-c", CHECK, path], capture_output=True, text=True, check=True, timeout=3600)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--output", type=Path, help="folder for check_cohort.json")
    chosen = parser.parse_args()
    results: list[dict[str, object]] = []
    print("| table | rows | seconds | peak, MiB | findings |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        write_scans(Path(folder))
        for kind in KINDS:
            for rows in chosen.rows:
                path = Path(folder) / f"{kind}.csv"
                write_table(path, kind, rows)
                figures = measure(path)
                results.append({"table": kind, "rows": rows, **figures})
                found = int(figures["errors"] + figures["warnings"])
                print(f"| {kind} | {rows} | {figures['seconds']:.1f} | {figures['mib']:.0f} | {found} |", flush=True)
    if chosen.output:
        chosen.output.mkdir(parents=True, exist_ok=True)
        content = {"machine": platform.processor() or platform.machine(), "results": results}
        atomic_write_text(chosen.output / "check_cohort.json", json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
