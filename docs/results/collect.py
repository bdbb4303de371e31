"""Take over the figures of a run of the survey's comparisons into this folder, for ``index.md``.

    medresnet3d compare lung_nodule_cnn3d --data lung_nodule_ct/manifest.json --set 'intensity_range=[0,255]' \
        --preset survey-all -o survey
    medresnet3d compare --optimiser-axes axes
    medresnet3d compare lung_nodule_cnn3d --data lung_nodule_ct/manifest.json --set 'intensity_range=[0,255]' \
        --preset lung-networks --folds 5 --seeds 3 --budget 80steps --workers 1 -o networks
    python docs/results/collect.py --survey survey --networks networks --axes axes

Only numbers are taken over: ``<preset>_summary.csv``, ``<preset>_results.csv`` (metric of each cell), ``axes.csv``,
``effective_rate.csv``, and ``setting.json`` with data set, budget and versions. The documentation build draws them.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shutil
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NETWORKS = "lung-networks"
_CELL_COLUMNS = ("arm", "seed", "status", "metric")


def take_comparison(folder: Path, name: str) -> dict[str, Any]:
    """Copy the tables of one comparison and give its settings."""
    shutil.copyfile(folder / "summary.csv", HERE / f"{name}_summary.csv")
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = [{column: row[column] for column in _CELL_COLUMNS} for row in csv.DictReader(file)]
    with (HERE / f"{name}_results.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _CELL_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    plan = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    kept = {key: plan[key] for key in ("seeds", "budget", "versions", "set")}
    return {**kept, "bundle": plan["bundle"]["name"], "data": plan["data"]["name"]}


def main() -> None:
    """Take over what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--survey", type=Path, help="folder of `compare --preset survey-all`")
    parser.add_argument("--networks", type=Path, help="folder of `compare --preset lung-networks`")
    parser.add_argument("--axes", type=Path, help="folder of `compare --optimiser-axes`")
    options = parser.parse_args()
    if options.axes is not None:
        for name in ("axes.csv", "effective_rate.csv"):
            shutil.copyfile(options.axes / name, HERE / name)
    taken = {}
    if options.survey is not None:
        found = sorted(path.parent for path in options.survey.glob("survey-*/summary.csv"))
        taken |= {folder.name: take_comparison(folder, folder.name) for folder in found}
    if options.networks is not None:
        taken |= {NETWORKS: take_comparison(options.networks, NETWORKS)}
    if taken:
        before = json.loads((HERE / "setting.json").read_text(encoding="utf-8"))["comparisons"]
        machine = {"processor": platform.machine(), "cores": os.cpu_count()}
        text = json.dumps({"machine": machine, "comparisons": before | taken}, indent=1)
        (HERE / "setting.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
