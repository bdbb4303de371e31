from __future__ import annotations

import errno
import os
import pickle
import signal
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor, PersistentDataset
from monai.data.utils import json_hashing
from monai.transforms import (
    Compose,
    Flipd,
    Invertd,
    Lambdad,
    LoadImaged,
    MapTransform,
    RandFlipd,
    RandSpatialCropd,
    ScaleIntensityRanged,
    Transform,
)

from medresnet3d.data.cache import DiskCacheDataset
from medresnet3d.data.cache.store import EntryStore
from medresnet3d.errors import ConfigError
from tests.data.cache.samples import first_line, items, same
from tests.data.cache.worker import COUNT, dataset

BOTH = ["image", "label"]


def entries(folder: Path) -> list[Path]:
    return sorted((folder / "entries").rglob("*.entry"))


class Counted(Transform):
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, data: Any) -> Any:
        self.calls += 1
        return data

    def cache_key(self) -> str:
        return "counted"


class Edited(MapTransform):
    def __call__(self, data: Any) -> Any:
        return {**data, "image": data["image"] + 1}


def test_each_item_is_computed_once_ever(tmp_path: Path) -> None:
    for run in range(2):
        counted = Counted()
        data = DiskCacheDataset(items(), [counted, RandFlipd("image", prob=0.5)], tmp_path)
        for index in (0, 1, 0, 1):
            assert data[index]["case"] == f"case {index}"
        assert counted.calls == (0 if run else 2)
    assert [type(part) for part in (data[:1], data[[0, 1]])] == [torch.utils.data.Subset] * 2
    assert [entry.name for entry in data.folder.listing()] == ["unnamed"] * 2


def test_changing_a_parameter_never_gives_the_old_result_where_monai_does(tmp_path: Path) -> None:
    """The contrast: PersistentDataset with its defaults, and with the hash that its documentation names."""
    path = tmp_path / "scan.nii"
    nib.save(nib.Nifti1Image(np.arange(1000, dtype=np.int16).reshape(10, 10, 10), np.eye(4)), path)
    data = [{"image": str(path)}]

    def window(upper: float) -> list[Any]:
        return [LoadImaged("image"), ScaleIntensityRanged("image", 0, upper, 0, 1), RandFlipd("image", prob=0)]

    fresh = [Compose(window(upper))(data[0])["image"] for upper in (400, 800)]
    assert not torch.equal(*fresh)
    for name, options in {"a": {}, "b": {"hash_transform": json_hashing}}.items():
        theirs = [
            PersistentDataset(data, window(upper), tmp_path / name, **options)[0]["image"] for upper in (400, 800)
        ]
        assert torch.equal(theirs[1], fresh[0].as_subclass(torch.Tensor)), "MONAI has mended it: say so in the docs"
    ours = [DiskCacheDataset(data, window(upper), tmp_path / "ours")[0]["image"] for upper in (400, 800)]
    assert all(map(same, ours, fresh))


def test_editing_a_transform_never_gives_the_old_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = items(1)
    before = DiskCacheDataset(data, [Edited("image")], tmp_path)[0]["image"]
    monkeypatch.setattr(Edited, "__call__", lambda self, data: {**data, "image": data["image"] + 2})
    assert torch.equal(DiskCacheDataset(data, [Edited("image")], tmp_path)[0]["image"], before + 1)


@pytest.mark.parametrize("identity", ["stat", "content"])
def test_replacing_a_scan_never_gives_the_old_result(tmp_path: Path, identity: Any) -> None:
    path = tmp_path / "scan.nii"
    for value in (1, 2):
        nib.save(nib.Nifti1Image(np.full((4, 5, 6), value, np.int16), np.diag([2.0, 2, 2, 1])), path)
        os.utime(path, ns=(value, value if identity == "stat" else 1))
        data = DiskCacheDataset([{"image": str(path)}], [LoadImaged("image")], tmp_path / "c", identity=identity)
        assert float(data[0]["image"].max()) == value
    assert data.folder.listing()[0].name == tmp_path.name


def test_affine_metadata_and_inversion_survive(tmp_path: Path) -> None:
    chain = Compose([Flipd(BOTH, 0), RandSpatialCropd(BOTH, 16, random_size=False)])
    data = DiskCacheDataset(items(), chain, tmp_path)
    data[0]
    sample = data[0]
    voxel = torch.tensor([0.0, 0, 0, 1], dtype=torch.float64)
    whole = DiskCacheDataset(items(), Compose([Flipd(BOTH, 0)]), tmp_path)[0]["image"]
    cropped = sample["image"].applied_operations[-1]["extra_info"]["cropped"]
    corner = torch.tensor([*cropped[::2], 1.0], dtype=torch.float64)
    assert torch.allclose(sample["image"].affine @ voxel, whole.affine @ corner)
    back = Invertd("image", data.transform, nearest_interp=False)(sample)["image"]
    assert back.shape == items()[0]["image"].shape


@pytest.mark.parametrize("storage", ["raw", "compressed", "auto"])
def test_storage_changes_nothing_but_the_size(tmp_path: Path, storage: Any) -> None:
    chain = [Lambdad("image", lambda x: x * 0.1)]
    data = items(1, (1, 64, 64, 64))
    expected = Compose(chain)(data[0])
    found = DiskCacheDataset(data, chain, tmp_path / storage, storage=storage)
    for _ in range(2):
        assert torch.equal(found[0]["image"], expected["image"])
        assert found[0]["image"].dtype == expected["image"].dtype


def test_auto_compresses_what_would_not_fit(tmp_path: Path) -> None:
    data = items(3, (1, 64, 64, 64))
    for item in data:
        item["image"] = MetaTensor(torch.zeros(1, 64, 64, 64))
    for limit, fits in ((100_000_000, True), (3_000_000, False)):
        found = DiskCacheDataset(data, [Flipd("image", 0)], tmp_path / str(limit), max_bytes=limit)
        found.fill()
        assert len(entries(found.folder.path)) == 3
        assert (min(path.stat().st_size for path in entries(found.folder.path)) > 64**3) == fits


def test_half_precision_rounds_and_has_its_own_entries(tmp_path: Path) -> None:
    chain = [Lambdad("image", lambda x: x * 0.001 + 0.1)]
    exact = DiskCacheDataset(items(1), chain, tmp_path)[0]["image"]
    rounded = DiskCacheDataset(items(1), chain, tmp_path, half_precision=True)[0]["image"]
    assert rounded.dtype == exact.dtype
    assert not torch.equal(exact, rounded)
    assert torch.allclose(exact, rounded, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "frame", "text"])
def test_a_damaged_entry_is_made_anew_with_a_warning(tmp_path: Path, damage: str) -> None:
    chain = [Flipd(BOTH, 0), RandSpatialCropd(BOTH, 16, random_size=False)]
    expected = DiskCacheDataset(items(1), Compose(chain), tmp_path).prefix(0)
    path = entries(tmp_path)[0]
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    raw = {"flip": raw, "cut": raw[:-1], "empty": b"", "frame": raw[:20], "text": b"x" * 100}[damage]
    path.write_bytes(raw)
    data = DiskCacheDataset(items(1), Compose(chain), tmp_path)
    with pytest.warns(UserWarning, match="is damaged .*made anew"):
        assert data[0]["image"].shape == (1, 16, 16, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(DiskCacheDataset(items(1), Compose(chain), tmp_path).prefix(0), expected)


@pytest.mark.parametrize("verify", ["never", "once"])
def test_damage_that_shows_while_a_block_is_read(tmp_path: Path, verify: Any) -> None:
    def cached(name: str) -> DiskCacheDataset:
        chain = [Flipd(BOTH, 0), RandSpatialCropd(BOTH, 16, random_size=False)]
        data = items(1, (1, 64, 64, 64))
        return DiskCacheDataset(data, Compose(chain), tmp_path / name, storage="compressed", verify=verify)

    reference, data = cached("good"), cached("bad")
    data.ensure(0)
    path = entries(tmp_path / "bad")[0]
    content = path.read_bytes()
    if verify == "once":
        data._store._opened.clear()  # opened anew, and not checked again
    path.write_bytes(content[:64] + bytes(200_000) + content[200_064:])
    for each in (reference, data):
        each.transform.set_random_state(seed=3)
    with pytest.warns(UserWarning, match="is damaged"):
        found = data[0]
    assert torch.equal(found["image"], reference[0]["image"])
    assert torch.equal(data[0]["image"], reference[0]["image"])


def no_space(*arguments: Any, **options: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def no_permission(*arguments: Any, **options: Any) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize(
    ("target", "failure", "reason"),
    [
        ("medresnet3d.data.cache.store.write_entry", no_space, "the disk is full"),
        ("medresnet3d.data.cache.folder.CacheFolder.lock", no_permission, "cannot be written .Permission denied."),
        ("medresnet3d.data.cache.store.write_entry", no_permission, "cannot be written"),
    ],
)
def test_a_folder_that_cannot_be_written_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, failure: Callable[..., None], reason: str
) -> None:
    monkeypatch.setattr(target, failure)
    data = DiskCacheDataset(items(), [Flipd(BOTH, 0), RandSpatialCropd(BOTH, 16, random_size=False)], tmp_path / "c")
    with pytest.warns(UserWarning, match=reason) as told:
        for index in (0, 1, 0):
            assert data[index]["image"].shape == (1, 16, 16, 16)
    assert len(told) == 1
    assert entries(tmp_path / "c") == []


def test_items_that_cannot_be_stored_are_computed_each_time(tmp_path: Path) -> None:
    data = DiskCacheDataset(items(), [Lambdad("case", lambda case: object())], tmp_path)
    with pytest.warns(UserWarning, match=r"item\['case'\] is a builtins.object, which it cannot store"):
        assert type(data[0]["case"]) is object


def test_eviction_keeps_the_size_and_the_results(tmp_path: Path) -> None:
    chain = [Flipd(BOTH, 0), RandSpatialCropd(BOTH, 16, random_size=False)]
    first = DiskCacheDataset(items(1), Compose(chain), tmp_path / "a")
    first[0]
    size = entries(tmp_path / "a")[0].stat().st_size
    data = DiskCacheDataset(items(4), Compose(chain), tmp_path / "b", storage="raw", max_bytes=int(2.5 * size))
    for index in [0, 1, 2, 3] * 2:
        assert data[index]["case"] == f"case {index}"
        assert len(entries(tmp_path / "b")) <= 2
    assert data.folder.index.total() <= 2.5 * size


def test_options_are_checked(tmp_path: Path) -> None:
    for options in ({"storage": "zip"}, {"identity": "name"}, {"verify": True}):
        with pytest.raises(ConfigError, match="; use "):
            DiskCacheDataset([], [], tmp_path, **options)  # type: ignore[arg-type]


def test_without_deterministic_transforms_nothing_is_stored(tmp_path: Path) -> None:
    data = DiskCacheDataset(items(), [RandSpatialCropd(BOTH, 16, random_size=False)], tmp_path / "c")
    assert data[0]["image"].shape == (1, 16, 16, 16)
    assert not (tmp_path / "c").exists()
    assert DiskCacheDataset(items(), None, tmp_path / "c")[1]["case"] == "case 1"


def test_entries_hold_no_pickles(tmp_path: Path) -> None:
    DiskCacheDataset(items(1), [Flipd(BOTH, 0)], tmp_path)[0]
    content = entries(tmp_path)[0].read_bytes()
    with pytest.raises((pickle.UnpicklingError, ValueError, EOFError, KeyError, IndexError, AttributeError)):
        pickle.loads(content)
    assert b"ctorch" not in content


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_loader_workers_fill_one_cache_together(tmp_path: Path, start: str) -> None:
    log = tmp_path / "log"
    data = dataset(tmp_path / "cache", log)
    workers = 2 if start == "fork" else 1  # a spawned one needs seconds for its imports
    loader = DataLoader(data, batch_size=2, num_workers=workers, multiprocessing_context=start, timeout=100)
    for _ in range(workers):
        shapes = [tuple(batch["image"].shape) for batch in loader]
        assert shapes == [(2, 1, 16, 16, 16)] * (COUNT // 2)
    assert Counter(log.read_text().splitlines()) == {f"case {i}": 1 for i in range(COUNT)}


def run(folder: Path, log: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.data.cache.worker", str(folder), str(log), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_ranks_fill_one_cache_at_once_and_a_killed_one_leaves_no_harm(tmp_path: Path) -> None:
    """As the ranks of a distributed training do: processes of their own that share nothing but the folder."""
    log = tmp_path / "log"
    killed = run(tmp_path / "cache", log, "stall")
    ranks = []
    try:
        assert first_line(killed) == "writing"
        assert entries(tmp_path / "cache") == []
        ranks = [run(tmp_path / "cache", log) for _ in range(2)]
        os.kill(killed.pid, signal.SIGKILL)
        digests = [rank.communicate(timeout=150)[0].split()[-1] for rank in ranks]
    finally:
        for process in (killed, *ranks):
            process.kill()
            process.wait(20)
    data = dataset(tmp_path / "cache", log)
    assert len(set(digests)) == 1
    assert [entry.name for entry in data.folder.listing()] == ["unnamed"] * COUNT
    assert Counter(log.read_text().splitlines()) == {"case 0": 2, **{f"case {i}": 1 for i in range(1, COUNT)}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.fill()


def test_a_pickled_data_set_opens_its_own_files(tmp_path: Path) -> None:
    data = DiskCacheDataset(items(), [Flipd(BOTH, 0)], tmp_path)
    data[0]
    copy: DiskCacheDataset = pickle.loads(pickle.dumps(data))
    store: EntryStore = copy._store
    assert store._opened == {}
    assert same(copy[0], data[0])
