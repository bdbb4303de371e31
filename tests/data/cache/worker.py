"""Run by tests as a process of its own: fills a cache, or is killed while it does.

python -m tests.data.cache.worker FOLDER LOG [stall] [RANK WORLD_SIZE]
"""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from typing import Any

import torch
from monai.transforms import Compose, Flipd, RandSpatialCropd, Transform

from medresnet3d.data.cache import DiskCacheDataset, entry
from tests.data.cache.samples import items

COUNT = 6


class Noted(Transform):
    """Writes a line for every item that it is given."""

    def __init__(self, log: str) -> None:
        self.log = log

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        with Path(self.log).open("a") as file:
            file.write(f"{data['case']}\n")
        time.sleep(0.02)
        return data


def dataset(folder: Path, log: Path) -> DiskCacheDataset:
    chain = [Noted(str(log)), Flipd("image", 0), RandSpatialCropd("image", 16, random_size=False)]
    return DiskCacheDataset(items(COUNT), Compose(chain), folder, storage="compressed")


def stall() -> None:
    """Stop in the middle of writing an entry, and say so."""
    write = entry.write_array

    def slow(file: Any, *arguments: Any, **options: Any) -> Any:
        spec = write(file, *arguments, **options)
        file.flush()
        print("writing", flush=True)
        time.sleep(60)
        return spec

    entry.write_array = slow


def main() -> None:
    data = dataset(Path(sys.argv[1]), Path(sys.argv[2]))
    if "stall" in sys.argv:
        stall()
    digest = hashlib.sha256()
    for index in range(COUNT):
        data.transform.set_random_state(seed=index)
        digest.update(data[index]["image"].as_subclass(torch.Tensor).numpy().tobytes())
    print(digest.hexdigest(), flush=True)


if __name__ == "__main__":
    main()
