"""How long one random 96^3 crop takes from a cached volume, side by side with MONAI's caching data sets.

    python benchmarks/cache.py --output results
    python benchmarks/cache.py --entries 100000 --output results

Volumes of 512 x 512 x 300 voxels, int16, with the noise of CT (see ``io.py``), as uncompressed NIfTI files; the chain
is MONAI's ``LoadImaged``, once as it is (float32) and once with ``dtype=int16``, and a ``RandSpatialCropd`` of 96^3.
Every arm crops with the same random states, and the voxels are compared before a time is believed. All files are in the
page cache of the system, for both sides. Times are medians of wall seconds, with processor seconds (all threads) in
brackets, which a busy machine changes less. Filling is loading, storing and the first crop, of one volume in a new
folder, without ``fsync`` on both sides.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medresnet3d.io.atomic import atomic_write_text

CROP = 96
KEY = "image"


def make_volumes(folder: Path, shape: tuple[int, int, int], count: int) -> list[dict[str, str]]:
    import nibabel as nib

    spec = importlib.util.spec_from_file_location("benchmark_io", Path(__file__).with_name("io.py"))
    if spec is None or spec.loader is None:
        raise SystemExit("benchmarks/io.py is missing")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    items = []
    for seed in range(count):
        path = folder / f"scan{seed}.nii"
        if not path.is_file():
            nib.save(nib.Nifti1Image(module.make_scan(shape, seed), module.AFFINE), path)
        items.append({KEY: str(path)})
    return items


def chain(dtype: Any) -> Any:
    from monai.transforms import Compose, LoadImaged, RandSpatialCropd

    load = LoadImaged(KEY, reader="NibabelReader", dtype=dtype, ensure_channel_first=True)
    return Compose([load, RandSpatialCropd(KEY, (CROP,) * 3, random_size=False)])


def arms(items: list[dict[str, str]], root: Path) -> dict[str, tuple[Any, Callable[[], Any]]]:
    """Name to number type and maker of a data set in a new folder."""
    from monai.data import CacheDataset, PersistentDataset

    from medresnet3d.data.cache import DiskCacheDataset

    def persistent(dtype: Any, **options: Any) -> Any:
        return PersistentDataset(items, chain(dtype), new(root, "persistent"), **options)

    def ours(dtype: Any, storage: Any) -> Any:
        return DiskCacheDataset(items, chain(dtype), new(root, "ours"), storage=storage)

    def memory(dtype: Any, copy_cache: bool) -> Any:
        return CacheDataset(items, chain(dtype), copy_cache=copy_cache, progress=False, num_workers=None)

    f, i = np.float32, np.int16
    return {
        "PersistentDataset, float32": (f, lambda: persistent(f)),
        "PersistentDataset, int16": (i, lambda: persistent(i)),
        "CacheDataset, float32": (f, lambda: memory(f, True)),
        "CacheDataset, float32, copy_cache=False": (f, lambda: memory(f, False)),
        "CacheDataset, int16": (i, lambda: memory(i, True)),
        "ours raw, float32": (f, lambda: ours(f, "raw")),
        "ours raw, int16": (i, lambda: ours(i, "raw")),
        "ours compressed, float32": (f, lambda: ours(f, "compressed")),
        "ours compressed, int16": (i, lambda: ours(i, "compressed")),
    }


def new(root: Path, name: str) -> Path:
    folder = root / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.suffix in (".pt", ".entry"))


def draw(dataset: Any, index: int) -> torch.Tensor:
    """Item ``index`` under a random state that was set before; a view of a whole volume becomes a crop of its own."""
    return dataset[index][KEY].as_subclass(torch.Tensor).contiguous()


def measure(
    make: Callable[[], Any], count: int, repeats: int, root: Path, arm: str
) -> tuple[dict[str, Any], list[Any]]:
    """Fill one arm, draw crops from it and give their digests; none is kept, as in a training."""
    wall = time.perf_counter()
    dataset = make()
    fills = []
    for index in range(count):
        start = time.perf_counter()
        draw(dataset, index)
        fills.append(time.perf_counter() - start)
    total = time.perf_counter() - wall
    checks, seconds, cpu = [], [], []
    for seed in range(repeats):
        dataset.transform.set_random_state(seed=seed)
        start, clock = time.perf_counter(), time.process_time()
        crop = draw(dataset, seed % count)
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - clock)
        checks.append(hashlib.sha256(crop.numpy().astype(np.float32).tobytes()).hexdigest())
    folder = root / ("ours" if arm.startswith("ours") else "persistent")
    on_disk = 0 if arm.startswith("CacheDataset") else size(folder) // count
    fill = total / count if arm.startswith("CacheDataset") else statistics.median(fills)
    facts = {"seconds": statistics.median(seconds), "cpu": statistics.median(cpu), "fill": fill, "bytes": on_disk}
    return facts, checks


def compare(items: list[dict[str, str]], root: Path, repeats: int) -> dict[str, Any]:
    results: dict[str, Any] = {}
    reference: list[Any] = []
    for arm, (_, make) in arms(items, root).items():
        facts, checks = measure(make, len(items), repeats if arm.startswith("ours") else min(repeats, 9), root, arm)
        reference = reference or checks
        same = all(one == other for one, other in zip(reference, checks, strict=False))
        if not same:
            raise SystemExit(f"{arm}: its crops are not those of PersistentDataset")
        results[arm] = facts
        print(
            f"{arm:42} {facts['seconds'] * 1e3:9.2f} ms ({facts['cpu'] * 1e3:9.2f}), fill {facts['fill']:.2f} s, "
            f"{facts['bytes'] / 1e6:.0f} MB",
            flush=True,
        )
    return results


def ratios(results: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for kind in ("float32", "int16"):
        for storage, goal in (("raw", 100), ("compressed", 30)):
            ours = results[f"ours {storage}, {kind}"]
            for peer in (
                f"PersistentDataset, {kind}",
                f"CacheDataset, {kind}",
                f"CacheDataset, {kind}, copy_cache=False",
            ):
                if peer in results:
                    other = results[peer]
                    rows.append(
                        {
                            "ours": f"{storage}, {kind}",
                            "peer": peer,
                            "faster": other["seconds"] / ours["seconds"],
                            "faster_cpu": other["cpu"] / ours["cpu"],
                            "goal": goal if peer.startswith("Pers") else 20,
                            "disk": ours["bytes"] / other["bytes"] if other["bytes"] else None,
                            "fill": other["fill"] / ours["fill"],
                        }
                    )
    return rows


def many_entries(root: Path, count: int) -> dict[str, float]:
    """Seconds to list a folder of so many entries, with its index and without, and to show it on the command line."""
    from medresnet3d.data.cache.entry import write_entry
    from medresnet3d.data.cache.folder import CacheFolder

    folder = CacheFolder(new(root, "many"))
    first = root / "one.entry"
    write_entry(first, {"image": torch.zeros(1, 4, 4, 4)}, {}, name="many")
    content = first.read_bytes()
    for number in range(count):
        path = folder.entry(f"{number * 2654435761 % 2**32:08x}".ljust(64, "0"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    times: dict[str, float] = {}
    start = time.perf_counter()
    if len(folder.listing()) != count:
        raise SystemExit("the listing is incomplete")
    times["index made anew"] = time.perf_counter() - start
    code = (
        "import time; start = time.perf_counter(); from medresnet3d.data.cache.folder import CacheFolder; "
        f"n = len(CacheFolder({str(folder.path)!r}).listing()); assert n == {count}; print(time.perf_counter() - start)"
    )
    runs = [float(subprocess.check_output([sys.executable, "-c", code], text=True)) for _ in range(5)]
    times["open and list, new process"] = statistics.median(runs)
    command = [sys.executable, "-m", "medresnet3d", "data", "cache", "info", str(folder.path)]
    walls = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        walls.append(time.perf_counter() - start)
    times["`medresnet3d data cache info`"] = statistics.median(walls)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 300))
    parser.add_argument("--volumes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=60, help="crops of our arms; at most 9 of the others")
    parser.add_argument("--entries", type=int, default=0, help="measure listing of so many entries instead")
    parser.add_argument("--output", type=Path, default=Path("results"))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(dir=options.output.resolve().parent) as scratch:
        root = Path(scratch)
        if options.entries:
            found: dict[str, Any] = many_entries(root, options.entries)
            name = "cache_entries.json"
        else:
            results = compare(make_volumes(root, tuple(options.shape), options.volumes), root, options.repeats)
            found = {"shape": options.shape, "arms": results, "ratios": ratios(results)}
            name = "cache.json"
    atomic_write_text(options.output / name, json.dumps(found, indent=1))
    print(json.dumps(found.get("ratios", found), indent=1))


if __name__ == "__main__":
    main()
