"""Seconds and peak memory of ``medresnet3d infer`` on one synthetic fundus photograph of 4288 x 2848 pixels.

    python benchmarks/big_picture.py --bundle macular_edema_cascade --out results/big_picture.json

The photograph is drawn by ``medresnet3d.data.phantoms.fundus_lesions``. ``infer`` runs as a command of its own with one
thread: reading, network, label map, overlay and report; memory is the largest resident set of that process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from medresnet3d.data.phantoms.fundus_lesions import fundus_photograph
from medresnet3d.io.atomic import atomic_write_text

COLUMNS, ROWS = 4288, 2848


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="macular_edema_cascade", help="name or folder of a bundle with weights")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], help="id=value of the bundle")
    options = parser.parse_args()
    small = fundus_photograph(0, "exudates", (ROWS // 4, COLUMNS // 4)).picture
    with tempfile.TemporaryDirectory() as folder:
        picture, output = Path(folder) / "eye.jpg", Path(folder) / "out"
        Image.fromarray(small).resize((COLUMNS, ROWS), Image.Resampling.BICUBIC).save(picture, quality=95)
        command = [sys.executable, "-m", "medresnet3d", "infer", options.bundle, str(picture), "-o", str(output)]
        command += ["--device", "cpu", *(part for value in options.set for part in ("--set", value))]
        begin = time.perf_counter()
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=900)
        wall = time.perf_counter() - begin
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        row = json.loads((output / "predictions.jsonl").read_text().splitlines()[0])
        result = {
            "bundle": options.bundle,
            "set": options.set,
            "picture": [COLUMNS, ROWS],
            "wall_seconds": round(wall, 1),
            "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
            "stage_seconds": row["stage_seconds"],
            "peak_mib": round(used.ru_maxrss / 1024),
            "report_kib": round((output / "report.html").stat().st_size / 1024),
            "files": sorted(path.name for path in output.iterdir()),
        }
    atomic_write_text(options.out, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
