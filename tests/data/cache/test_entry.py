from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import Compose, RandSpatialCropd

from medresnet3d.data.cache.crops import crop_entry
from medresnet3d.data.cache.entry import Entry, raw_bytes, write_entry
from medresnet3d.data.cache.header import FRAME, DamagedEntryError, read_header, write_header
from medresnet3d.data.cache.index_sets import IndexSet
from tests.data.cache.samples import items, same


@pytest.mark.parametrize("compress", [False, True])
def test_items_come_back_with_their_sets_of_voxels(tmp_path: Path, compress: bool) -> None:
    item = {**items(1)[0], 3: [torch.arange(1000), {"deep": np.arange(5000.0)}]}
    flags = np.arange(20000) % 7 == 0
    write_entry(tmp_path / "a", item, {"0": IndexSet.of(flags, limit=50)}, "name", compress)
    entry = Entry(tmp_path / "a")
    assert same(entry.value(), item)
    assert read_header(tmp_path / "a")["name"] == "name"
    assert [int(entry.index_sets["0"][i]) for i in range(50)] == [int(IndexSet.of(flags, 50)[i]) for i in range(50)]
    assert raw_bytes(item) > 300_000
    assert not hasattr(entry.value()["image"], "base")


def test_whole_numbers_take_less_room(tmp_path: Path) -> None:
    item = items(1, (1, 96, 96, 96))[0]
    write_entry(tmp_path / "raw", item, {})
    write_entry(tmp_path / "packed", {"label": item["label"]}, {}, compress=True)
    assert (tmp_path / "raw").stat().st_size < raw_bytes(item) * 0.7
    assert (tmp_path / "packed").stat().st_size < item["label"].numel() * 0.1


def lie(path: Path, **changes: Any) -> None:
    """Replace parts of a header, with a checksum that fits."""
    header = {**read_header(path), **changes}
    end = int.from_bytes(path.read_bytes()[8:16], "little")
    arrays = path.read_bytes()[FRAME.size : end]
    with path.open("wb") as file:
        file.write(bytes(FRAME.size) + arrays)
        write_header(file, header)


@pytest.mark.parametrize(
    "changes",
    [
        {"arrays": None},
        {"arrays": [{"shape": [10**6], "logical": "float64"}]},
        {"sets": [1]},
        {"sets": {"0": {"first": 99, "limit": None}}},
        {"sets": {"0": {"first": "x"}}},
        {"sets": {"0": {"first": 0, "limit": None}}},
        {"tree": {"t": "exec"}},
        {"tree": {"t": "dict", "v": 3}},
        {"tree": {"t": "dict", "v": [["image", {"t": "tensor", "n": 77}]]}},
        {"tree": {"t": "dict", "v": [["image", {"t": "tensor", "n": [1]}]]}},
        {"tree": {"t": "dict", "v": [["image"]]}},
    ],
    ids=str,
)
def test_hostile_headers_are_damage_also_for_crops(tmp_path: Path, changes: dict[str, Any]) -> None:
    write_entry(tmp_path / "a", items(1)[0], {})
    lie(tmp_path / "a", **changes)
    with pytest.raises(DamagedEntryError):
        Entry(tmp_path / "a").value()
    with pytest.raises(DamagedEntryError):
        chain = Compose([RandSpatialCropd("image", 8, random_size=False)])
        if crop_entry(Entry(tmp_path / "a"), chain.transforms[0], chain) is None:
            Entry(tmp_path / "a").value()


def test_checksums_are_of_what_was_written(tmp_path: Path) -> None:
    write_entry(tmp_path / "a", items(1)[0], {})
    raw = bytearray((tmp_path / "a").read_bytes())
    raw[64 + 1000] ^= 1
    (tmp_path / "a").write_bytes(raw)
    with pytest.raises(DamagedEntryError, match="checksum"):
        Entry(tmp_path / "a")
    assert not same(Entry(tmp_path / "a", check=False).value(), items(1)[0])


def test_a_header_says_where_its_arrays_are_in_plain_json(tmp_path: Path) -> None:
    write_entry(tmp_path / "a", items(1)[0], {})
    raw = (tmp_path / "a").read_bytes()
    start, length, crc = (int.from_bytes(raw[a:b], "little") for a, b in ((8, 16), (16, 20), (20, 24)))
    text = raw[start : start + length]
    assert zlib.crc32(text) == crc
    first = json.loads(text)["arrays"][0]
    stored = np.frombuffer(raw, first["stored"], items(1)[0]["image"].numel(), first["offset"])
    assert np.array_equal(stored.reshape(first["shape"]), items(1)[0]["image"].numpy())
