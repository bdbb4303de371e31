from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import CacheDataset, set_track_meta
from monai.transforms import (
    Compose,
    CopyItemsd,
    FgBgToIndicesd,
    Flipd,
    Lambdad,
    RandCropByLabelClassesd,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandGaussianNoised,
    RandScaleCropd,
    RandSpatialCrop,
    RandSpatialCropd,
    RandSpatialCropSamples,
    RandSpatialCropSamplesd,
    RandWeightedCropd,
    ToTensord,
)

from medresnet3d.data.cache import DiskCacheDataset, arrays, crops
from medresnet3d.data.cache.entry import Entry
from tests.data.cache.samples import items, labels, same, scan

BOTH = ["image", "label"]
CROPS: dict[str, Callable[[int], Any]] = {
    "spatial": lambda n: RandSpatialCropd(BOTH, (16,) * n, random_size=False),
    "spatial, random size": lambda n: RandSpatialCropd(BOTH, (8,) * n, (20,) * n, random_size=True),
    "spatial, whole axis": lambda n: RandSpatialCropd(BOTH, (-1, 90, 10)[:n], random_size=False),
    "spatial, centre": lambda n: RandSpatialCropd(BOTH, (16,) * n, random_center=False, random_size=False),
    "one voxel": lambda n: RandSpatialCropd(BOTH, (1,) * n, random_size=False),
    "image only": lambda n: RandSpatialCropd("image", (16,) * n, random_size=False),
    "missing key": lambda n: RandSpatialCropd(["image", "other"], 16, random_size=False, allow_missing_keys=True),
    "scale": lambda n: RandScaleCropd(BOTH, 0.4, 0.9, random_size=True),
    "samples": lambda n: RandSpatialCropSamplesd(BOTH, (16,) * n, 3, random_size=False),
    "balanced": lambda n: RandCropByPosNegLabeld(BOTH, "label", (16,) * n, pos=2, num_samples=4),
    "balanced in image": lambda n: RandCropByPosNegLabeld(
        BOTH, "label", (16,) * n, num_samples=4, image_key="image", image_threshold=100
    ),
    "balanced, label kept whole": lambda n: RandCropByPosNegLabeld("image", "label", (16,) * n, num_samples=2),
    "balanced, smaller": lambda n: RandCropByPosNegLabeld(BOTH, "label", 45, num_samples=2, allow_smaller=True),
    "classes": lambda n: RandCropByLabelClassesd(BOTH, "label", (16,) * n, [1, 3, 2], num_classes=3, num_samples=4),
    "classes in image, thinned": lambda n: RandCropByLabelClassesd(
        BOTH, "label", (16,) * n, num_classes=3, num_samples=4, image_key="image", max_samples_per_class=50
    ),
    # these are not read in part, and must be right all the same
    "weighted": lambda n: RandWeightedCropd(BOTH, "label", (16,) * n, 3),
    "no crop": lambda n: RandGaussianNoised("image", prob=1),
}


def pair(tmp_path: Path, data: Any, transforms: list[Any], **options: Any) -> tuple[DiskCacheDataset, CacheDataset]:
    """Ours and MONAI's data set over the same chain, with the same random state."""
    chains = [Compose(copy.deepcopy(transforms), log_stats=False) for _ in range(2)]
    ours = DiskCacheDataset(data, chains[0], tmp_path / "cache", **options)
    theirs = CacheDataset(data, chains[1], progress=False, num_workers=None)
    for dataset in (ours, theirs):
        dataset.transform.set_random_state(seed=7)
    return ours, theirs


@pytest.mark.parametrize("storage", ["raw", "compressed"])
@pytest.mark.parametrize("shape", [(1, 40, 36, 50), (1, 60, 45)], ids=["3D", "2D"])
@pytest.mark.parametrize("name", CROPS)
def test_samples_are_those_of_monais_chain_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, shape: tuple[int, ...], storage: Any
) -> None:
    monkeypatch.setattr(arrays, "MIN_BLOCKED", 100)
    monkeypatch.setattr(arrays, "BLOCKS", {3: (1, 16, 16), 4: (1, 8, 8, 8), 1: (64,), 2: (8, 8)})
    chain = [
        Flipd(BOTH, 0),
        CopyItemsd("case", names="name"),
        CROPS[name](len(shape) - 1),
        RandFlipd("image", prob=0.5, spatial_axis=0),
    ]
    ours, theirs = pair(tmp_path, items(2, shape), chain, storage=storage)
    for index in (0, 1, 0, -1):
        assert same(ours[index], theirs[index])


def test_a_crop_reads_its_part_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("spatial", "scale", "samples", "balanced", "classes"):
        ours, _ = pair(tmp_path / name, items(1), [Flipd(BOTH, 0), CROPS[name](3)])
        ours[0]
        boxes = []
        read = Entry.read
        monkeypatch.setattr(Entry, "read", lambda self, n, box=None: (boxes.append(box), read(self, n, box))[1])  # noqa: B023
        ours[0]
        monkeypatch.undo()
        assert boxes, name
        assert None not in boxes, name


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32, torch.bool])
@pytest.mark.parametrize("channels", [1, 3])
def test_background_is_what_monai_takes_for_it(tmp_path: Path, dtype: torch.dtype, channels: int) -> None:
    label = labels((1, 20, 20, 20))
    if channels > 1:
        label = torch.cat([label == number for number in range(3)])
    data = [{"image": scan((1, 20, 20, 20)), "label": label.to(dtype)}]
    if dtype != torch.bool:
        data[0]["image"][0, :10] = -2000
    for i, image_key in enumerate((None, "image")):
        crop = RandCropByPosNegLabeld(BOTH, "label", 8, num_samples=6, image_key=image_key, image_threshold=-1500)
        ours, theirs = pair(tmp_path / str(i), data, [Flipd(BOTH, 0), crop])
        assert same(ours[0], theirs[0])


def test_plain_tensors_and_arrays_without_keys(tmp_path: Path) -> None:
    data = [scan(seed=1), scan(seed=2)]
    for i, crop in enumerate((RandSpatialCrop(16, random_size=False), RandSpatialCropSamples(9, 2, random_size=False))):
        ours, theirs = pair(tmp_path / str(i), data, [Lambda1(), crop])
        assert same([ours[0], ours[1]], [theirs[0], theirs[1]])


class Lambda1(Flipd):
    """A transform of an item without keys."""

    def __init__(self) -> None:
        super().__init__("image")

    def __call__(self, data: Any, lazy: bool | None = None) -> Any:
        return data + 1


def test_numpy_items_and_bfloat16_and_missing_metadata(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = [{"image": rng.normal(size=(1, 30, 30, 30)).astype(np.float32), "label": torch.ones(1, 30, 30, 30)}]
    ours, theirs = pair(tmp_path / "a", data, [Flipd("label", 0), CROPS["spatial"](3)])
    assert same(ours[0], theirs[0])
    half = [Lambdad("image", lambda x: torch.as_tensor(x).to(torch.bfloat16)), CROPS["spatial"](3)]
    ours, theirs = pair(tmp_path / "b", data, half)
    assert same(ours[0], theirs[0])


def test_indices_that_the_chain_makes_itself(tmp_path: Path) -> None:
    crop = RandCropByPosNegLabeld(BOTH, "label", 16, 1, 1, 3, fg_indices_key="label_fg", bg_indices_key="label_bg")
    chain = [FgBgToIndicesd("label", "_fg", "_bg"), crop]
    ours, theirs = pair(tmp_path, items(1), chain)
    assert same([ours[0], ours[0]], [theirs[0], theirs[0]])


def test_without_tracking_of_metadata(tmp_path: Path) -> None:
    set_track_meta(False)
    try:
        ours, theirs = pair(tmp_path, items(1), [ToTensord(BOTH, track_meta=False), CROPS["spatial"](3)])
        found, expected = ours[0], theirs[0]
    finally:
        set_track_meta(True)
    assert type(found["image"]) is torch.Tensor
    assert same(found, expected)


def test_errors_are_monais(tmp_path: Path) -> None:
    chain = [Flipd(BOTH, 0), RandCropByPosNegLabeld(BOTH, "label", 99)]
    for dataset in pair(tmp_path, items(1), chain):
        with pytest.raises(RuntimeError, match="applying transform"):
            dataset[0]


def test_only_crops_that_are_known_exactly_are_read_in_part() -> None:
    class Other(RandSpatialCropd):
        pass

    assert crops.is_lazy_crop(CROPS["spatial"](3), Compose([]))
    assert not crops.is_lazy_crop(Other("image", 8), Compose([]))
    assert not crops.is_lazy_crop(RandSpatialCropd("image", 8, lazy=True), Compose([]))
    assert not crops.is_lazy_crop(CROPS["spatial"](3), Compose([], lazy=True))


@settings(deadline=None, max_examples=25)
@given(
    shape=st.tuples(st.integers(1, 2), *(st.integers(1, 40) for _ in range(3))),
    size=st.tuples(*(st.integers(-1, 45) for _ in range(3))),
    seed=st.integers(0, 10**6),
    compress=st.booleans(),
)
def test_any_crop_of_any_volume(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, ...],
    size: tuple[int, ...],
    seed: int,
    compress: bool,
) -> None:
    data = [{"image": scan(shape, seed)}]
    size = tuple(each or 1 for each in size)
    chain = [Flipd("image", 1), RandSpatialCropd("image", size, random_size=False)]
    path = tmp_path_factory.mktemp("c")
    ours, theirs = pair(path, data, chain, storage="compressed" if compress else "raw")
    for dataset in (ours, theirs):
        dataset.transform.set_random_state(seed=seed)
    assert same([ours[0], ours[0]], [theirs[0], theirs[0]])
