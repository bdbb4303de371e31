"""How long the instant commands take, side by side with ``python -c "import monai"`` (medians of several runs).

python benchmarks/cli_startup.py [RUNS]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

PEER = [sys.executable, "-c", "import monai"]
OURS = {
    "medresnet3d --help": ["--help"],
    "medresnet3d bundle list": ["bundle", "list"],
    "medresnet3d bundle inspect": ["bundle", "inspect", "lung_nodule_cnn3d"],
}
START = "from medresnet3d.cli.main import main; main()"


def seconds(command: list[str]) -> float:
    """Wall time of one run of ``command``."""
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def main() -> None:
    """Run everything in turn, so that a busy machine slows all of them alike, and print medians and ratios."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    commands = {'python -c "import monai"': PEER} | {
        name: [sys.executable, "-c", START, *arguments] for name, arguments in OURS.items()
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            times[name].append(seconds(command))
    medians = {name: statistics.median(values) for name, values in times.items()}
    peer = medians['python -c "import monai"']
    for name, value in medians.items():
        print(f"{name:28} {value:6.2f} s   1/{peer / value:.0f}")


if __name__ == "__main__":
    main()
