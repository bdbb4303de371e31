from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.transforms import Compose, Flipd, RandGaussianNoised, RandSpatialCropd

from medresnet3d.data import SeededDataset, data_loader
from medresnet3d.data.prefix_caches import CACHES, build_prefix_cache, chain_hash, item_hash
from medresnet3d.errors import ConfigError
from tests.data.cache.samples import items, same

BOTH = ["image", "label"]
CHOICES: list[Any] = [*CACHES, {"name": "disk", "storage": "compressed"}, {"name": "smart", "cache_rate": 1.0}, 2]


def seeded(cache: Any, folder: Path, **options: Any) -> SeededDataset:
    chain = [Flipd(BOTH, 0), RandSpatialCropd(BOTH, 16, random_size=False), RandGaussianNoised("image", prob=0.5)]
    return SeededDataset(items(4), Compose(chain), 3, cache=cache, cache_dir=folder, **options)


@pytest.mark.parametrize("cache", CHOICES, ids=str)
def test_where_results_are_kept_changes_no_sample(tmp_path: Path, cache: Any) -> None:
    reference, data = seeded("none", tmp_path), seeded(cache, tmp_path, repeats=2)
    half = cache == "smart"
    assert len(data) == (4 if half else 8)
    for epoch in (0, 1):
        for each in (reference, data):
            each.set_epoch(epoch)
        for index in range(2):
            one, other = data[index], reference[index + (epoch if half else 0)]
            if half and epoch:
                assert one["case"] == other["case"]  # another item of the same epoch has another seed
            else:
                assert all(torch.equal(one[key], other[key]) for key in BOTH)
                assert torch.equal(one["image"].affine, other["image"].affine)
                assert one["case"] == other["case"]


def test_smart_goes_round_and_does_not_depend_on_interruptions(tmp_path: Path) -> None:
    unbroken = seeded("smart", tmp_path)
    shown = []
    for epoch in range(5):
        unbroken.set_epoch(epoch)
        unbroken.set_epoch(epoch)
        shown.append([unbroken[i]["case"] for i in range(2)])
        resumed = seeded("smart", tmp_path)
        resumed.set_epoch(epoch)
        assert all(torch.equal(resumed[i]["image"], unbroken[i]["image"]) for i in range(2))
    assert shown == [[f"case {(epoch + i) % 4}" for i in range(2)] for epoch in range(5)]
    copy = pickle.loads(pickle.dumps(unbroken))
    assert torch.equal(copy[0]["image"], unbroken[0]["image"])


def test_a_validation_sees_all_items(tmp_path: Path) -> None:
    for cache in ("smart", {"name": "smart", "cache_rate": 0.25}):
        assert len(seeded(cache, tmp_path, all_items=True)) == 4
    assert len(seeded({"name": "smart", "cache_rate": 0.25}, tmp_path)) == 1


@pytest.mark.parametrize("cache", ["memory", "smart", "persistent", "disk"])
def test_workers_give_the_same_batches(tmp_path: Path, cache: str) -> None:
    found = [
        [batch["image"] for batch in data_loader(seeded(cache, tmp_path / cache), 2, True, num_workers=workers)]
        for workers in (0, 2)
    ]
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("cache", "pattern"), [("disk", "*.entry"), ("persistent", "*.pt")])
def test_what_is_kept_on_disk_is_found_again(tmp_path: Path, cache: str, pattern: str) -> None:
    times = []
    for _ in range(2):
        data = seeded(cache, tmp_path)
        data.fill_cache()
        assert data[0]["image"].shape == (1, 16, 16, 16)
        times.append(sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.rglob(pattern)))
    assert len(times[0]) == 4
    assert times[0] == times[1]


def test_monais_persistent_data_set_gets_keys_that_change_with_the_parameters(tmp_path: Path) -> None:
    for axis in (0, 1):
        data = SeededDataset(items(1), [Flipd(BOTH, axis)], cache="persistent", cache_dir=tmp_path)
        assert torch.equal(data[0]["image"], items(1)[0]["image"].flip(axis + 1))
        assert same(data[0]["image"].meta, Flipd(BOTH, axis)(items(1)[0])["image"].meta)
    assert chain_hash([Flipd(BOTH, 0)]) != chain_hash([Flipd(BOTH, 1)])
    assert item_hash({"image": "a"}) != item_hash({"image": "b"})


@pytest.mark.parametrize(
    ("cache", "sentence"),
    [
        ("dsk", r"no cache 'dsk'; use none, memory, smart, persistent, disk .did you mean disk"),
        ({"storage": "raw"}, "no cache None"),
        ({"name": "disk", "size": 3}, "options {'size': 3}"),
        ({"name": "disk", "storage": "zip"}, "storage is 'zip'"),
    ],
)
def test_wrong_choices_are_explained(tmp_path: Path, cache: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build_prefix_cache(cache, items(1), Compose([Flipd(BOTH, 0)]), tmp_path)
