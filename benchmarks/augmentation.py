"""How long augmenting a batch takes: MONAI's random transforms sample by sample, and ours for the whole batch.

    python benchmarks/augmentation.py --output results
    python benchmarks/augmentation.py --work nodules --repeats 30

Both sides start from the same tensors and the same seed and end with one tensor of the batch. Every round's outputs are
compared before its times are believed. MONAI's side is the chain as it is written, and in 3D once more with lazy
resampling, which joins flips and affine map (in 2D MONAI 1.6 ends with an error). Times are medians of processor
seconds (all threads) and of wall seconds; on a shared machine the former say more.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    MapTransform,
    RandAdjustContrastd,
    RandAffined,
    RandFlipd,
    RandRotate90d,
    RandScaleIntensityd,
)

from medresnet3d.io.atomic import atomic_write_text
from medresnet3d.transforms.batched import BatchedAugmentation

WORK = {
    "nodules": ((16, 1, 32, 32, 32), 0.3),
    "nodules, all warped": ((16, 1, 32, 32, 32), 1.0),
    "pictures": ((32, 3, 224, 224), 0.5),
    "patches": ((4, 1, 64, 64, 64), 0.5),
    "large patches": ((2, 1, 96, 96, 96), 1.0),
}
"""Shape of the batch (B, C, ...), and the probability of an affine map."""
GOAL = 1.8
EQUAL = 1e-4


def chain(dims: int, prob: float) -> list[MapTransform]:
    """Flips, right-angle turns, an affine map, contrast and brightness."""
    return [
        *(RandFlipd("image", prob=0.5, spatial_axis=axis) for axis in range(dims)),
        RandRotate90d("image", prob=0.5, spatial_axes=(0, 1)),
        RandAffined(
            "image",
            prob=prob,
            rotate_range=[0.175] * (3 if dims == 3 else 1),
            shear_range=[0.05] * 2,
            translate_range=[3] * dims,
            scale_range=[0.1] * dims,
            mode="bilinear",
            padding_mode="border",
        ),
        RandScaleIntensityd("image", factors=0.1, prob=0.5),
        RandAdjustContrastd("image", prob=0.3, gamma=(0.8, 1.25)),
    ]


def sides(dims: int, prob: float) -> dict[str, Callable[[torch.Tensor, int], torch.Tensor]]:
    """What each side does with a batch and a seed."""
    eager, lazy = Compose(chain(dims, prob)), Compose(chain(dims, prob), lazy=True)
    ours = BatchedAugmentation(chain(dims, prob))

    def per_sample(compose: Compose) -> Callable[[torch.Tensor, int], torch.Tensor]:
        def run(batch: torch.Tensor, seed: int) -> torch.Tensor:
            compose.set_random_state(seed)
            done: list[Any] = [compose({"image": MetaTensor(sample)})["image"] for sample in batch]
            return torch.stack([each.as_tensor() for each in done])

        return run

    both = {
        "medresnet3d": lambda batch, seed: ours.set_random_state(seed)({"image": batch})["image"],
        "MONAI": per_sample(eager),
    }
    return both | ({"MONAI, lazy": per_sample(lazy)} if dims == 3 else {})


def measure(name: str, repeats: int) -> dict[str, Any]:
    """Time all sides in turn; refuse times where ours and MONAI's outputs differ."""
    shape, prob = WORK[name]
    batch = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    runs = sides(len(shape) - 2, prob)
    busy: dict[str, list[float]] = {side: [] for side in runs}
    wall: dict[str, list[float]] = {side: [] for side in runs}
    worst = 0.0
    for seed in range(repeats + 1):
        results = {}
        for side, run in runs.items():
            start, processor = time.perf_counter(), time.process_time()
            results[side] = run(batch, seed)
            if seed:  # the first round warms up
                busy[side].append(time.process_time() - processor)
                wall[side].append(time.perf_counter() - start)
        worst = max(worst, float((results["medresnet3d"] - results["MONAI"]).abs().max()))
    if worst > EQUAL:
        raise SystemExit(f"{name}: the outputs differ by {worst:g}; the times say nothing.")
    return {
        "work": name,
        "shape": list(shape),
        "affine_probability": prob,
        "repeats": repeats,
        "threads": torch.get_num_threads(),
        "largest_difference": worst,
        "date": time.strftime("%Y-%m-%d"),
        "sides": {side: {"cpu": statistics.median(busy[side]), "wall": statistics.median(wall[side])} for side in runs},
    }


def table(results: list[dict[str, Any]]) -> str:
    """Give the results as a Markdown table."""
    lines = [
        "| batch | warped | ours, CPU s (wall) | MONAI, CPU s (wall) | ratio | MONAI lazy, CPU s (wall) | ratio |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for result in results:
        ours, eager, lazy = (result["sides"].get(side) for side in ("medresnet3d", "MONAI", "MONAI, lazy"))
        shape = " x ".join(map(str, result["shape"]))
        cells = [f"{shape}", f"{result['affine_probability']:.0%}", f"{ours['cpu']:.4f} ({ours['wall']:.4f})"]
        for other in (eager, lazy):
            if other is None:
                cells += ["", ""]
                continue
            cells.append(f"{other['cpu']:.4f} ({other['wall']:.4f})")
            cells.append(f"{other['cpu'] / ours['cpu']:.2f}x ({other['wall'] / ours['wall']:.2f}x)")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, write ``augmentation.json`` and ``augmentation.md``, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", choices=list(WORK), nargs="+", default=list(WORK), help="what to time")
    parser.add_argument("--repeats", type=int, default=20, help="rounds, each with a seed of its own")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch, the same for all sides")
    parser.add_argument("--output", type=Path, default=Path("results"), help="folder of the results")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    results = [measure(name, options.repeats) for name in options.work]
    atomic_write_text(options.output / "augmentation.json", json.dumps(results, indent=2) + "\n")
    atomic_write_text(options.output / "augmentation.md", table(results))
    print(f"{table(results)}\nour goal: {GOAL}x; the outputs agree to {EQUAL:g}")


if __name__ == "__main__":
    main()
