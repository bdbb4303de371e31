"""What the benchmarks of masks share: Dice, means with intervals, and a command line of one arm and one fold a run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from table import comparison_table

from medresnet3d.io.atomic import atomic_write_text

SEED = 0


def dice(answer: NDArray[Any], truth: NDArray[Any]) -> float:
    return float(2 * (answer & (truth > 0)).sum() / max(1, answer.sum() + (truth > 0).sum()))


def percentiles(figures: Sequence[float] | NDArray[np.float64]) -> list[float]:
    """The interval that holds 95% of resampled figures."""
    return [float(value) for value in np.percentile(figures, (2.5, 97.5))]


def estimate(values: NDArray[np.float64], resamples: int = 10000) -> dict[str, Any]:
    """Mean with its 95% percentile bootstrap interval over cases."""
    rng = np.random.default_rng(SEED)
    means = values[rng.integers(len(values), size=(resamples, len(values)))].mean(1)
    return {"mean": float(values.mean()), "interval": percentiles(means)}


def results_of(folder: Path, arm: str) -> list[dict[str, Any]]:
    """What the folds of an arm have left, in their order."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob(f"{arm}_fold?.json"))]


def run_by_fold(
    description: str | None,
    name: str,
    arms: Mapping[str, str],
    *,
    run: Callable[[argparse.Namespace], dict[str, Any]],
    summarise: Callable[[Path], dict[str, Any]],
    scores: Callable[[dict[str, Any]], Sequence[float]],
    data: str,
    cpu_seconds: float,
) -> None:
    """The command line: run an arm on a fold that has left no file, or write and print the summary of all.

    Args:
        description: of the script.
        name: of the summary's file.
        arms: names and what the table says of each.
        run: learns from all folds but one and measures on that one.
        summarise: makes the summary of a folder of results.
        scores: the Dice of each case in a result.
        data: what the manifest is of.
        cpu_seconds: of training, by default.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help=f"manifest of a {data}")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arm", choices=[*arms, "summary"], required=True)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--cpu-seconds", type=float, default=cpu_seconds)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.arm == "summary":
        summary = summarise(options.out)
        atomic_write_text(options.out / f"{name}.json", json.dumps(summary, indent=1) + "\n")
        print(comparison_table(summary, dict(arms), "mean Dice"))
        return
    path = options.out / f"{options.arm}_fold{options.fold}.json"
    if not path.exists():
        result = run(options)
        atomic_write_text(path, json.dumps(result) + "\n")
        print(f"{path.stem}: mean Dice {np.mean(scores(result)):.3f}", flush=True)
