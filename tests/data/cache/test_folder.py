from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import pytest
import torch

from medresnet3d.data.cache.entry import write_entry
from medresnet3d.data.cache.folder import CacheFolder, default_folder
from medresnet3d.errors import DataError


def key(number: int) -> str:
    return f"{number:064x}"


def add(folder: CacheFolder, number: int, name: str = "set", size: int = 100) -> int:
    with folder.writing(key(number), name) as path:
        write_entry(path, {"x": torch.rand(size)}, {}, name)
    return folder.entry(key(number)).stat().st_size


def listed(folder: CacheFolder) -> list[int]:
    return [int(entry.key, 16) for entry in folder.listing()]


def test_entries_appear_whole_and_are_listed(tmp_path: Path) -> None:
    folder = CacheFolder(tmp_path / "cache")
    assert folder.listing() == []
    assert not folder.path.exists()
    size = add(folder, 1)
    assert [(entry.size, entry.name) for entry in folder.listing()] == [(size, "set")]
    with pytest.raises(RuntimeError, match="stop"), folder.writing(key(2), "set") as path:
        path.write_bytes(b"half")
        raise RuntimeError("stop")
    assert listed(folder) == [1]
    assert list((folder.path / "scratch").iterdir()) == []


def test_the_longest_unused_go_first(tmp_path: Path) -> None:
    folder = CacheFolder(tmp_path)
    size = add(folder, 0)
    folder.max_bytes = 7 * size // 2  # three, which may differ by some bytes
    for number in (1, 2):
        add(folder, number)
    folder.note(key(0), size, "set")
    add(folder, 3)
    assert listed(folder) == [2, 0, 3]
    assert not folder.entry(key(1)).exists()


def test_what_is_open_stays_readable_when_it_is_evicted(tmp_path: Path) -> None:
    from medresnet3d.data.cache.entry import Entry

    folder = CacheFolder(tmp_path)
    size = add(folder, 0)
    entry = Entry(folder.entry(key(0)))
    folder.max_bytes = size * 3 // 2
    add(folder, 1)
    assert not folder.entry(key(0)).exists()
    assert entry.value()["x"].shape == (100,)


def test_an_entry_that_is_larger_than_the_cache_is_refused(tmp_path: Path) -> None:
    folder = CacheFolder(tmp_path, max_bytes=100)
    with pytest.raises(DataError, match="larger than the whole cache"):
        add(folder, 0)
    assert listed(folder) == []


def test_a_lost_or_damaged_index_is_made_anew(tmp_path: Path) -> None:
    folder = CacheFolder(tmp_path)
    for number in range(3):
        add(folder, number, name=f"set {number}")
    names = sorted(entry.name for entry in folder.listing())
    for damage in (lambda path: path.unlink(), lambda path: path.write_bytes(b"no database" * 1000)):
        for file in tmp_path.glob("medresnet3d_cache.sqlite-*"):
            file.unlink()
        damage(folder.index.path)
        folder.listing()  # a damaged one is removed by whoever finds it
        assert sorted(entry.name for entry in folder.listing()) == names
        assert folder.index.total() == sum(entry.size for entry in folder.listing())


def test_clear_removes_entries_and_nothing_else(tmp_path: Path) -> None:
    folder = CacheFolder(tmp_path)
    sizes = [add(folder, number, name=f"set {number % 2}") for number in range(4)]
    for stranger in (tmp_path / "thesis.txt", tmp_path / "entries" / "00" / "note.entry", tmp_path / "entries" / "x"):
        stranger.write_text("mine")
    assert folder.clear(name="set 1") == (2, sizes[1] + sizes[3])
    assert sorted(listed(folder)) == [0, 2]
    assert folder.clear(unused_days=1) == (0, 0)
    database = sqlite3.connect(folder.index.path)
    with database:
        database.execute("UPDATE entries SET used = ? WHERE key = ?", (time.time() - 2 * 86400, key(2)))
    database.close()
    assert folder.clear(unused_days=1)[0] == 1
    assert folder.clear() == (1, sizes[0])
    assert (tmp_path / "thesis.txt").exists()
    assert (tmp_path / "entries" / "00" / "note.entry").exists()
    assert (tmp_path / "entries" / "x").exists()


def test_a_hostile_index_reaches_no_other_file(tmp_path: Path) -> None:
    folder = CacheFolder(tmp_path / "cache")
    victim = tmp_path / "victim.entry"
    victim.write_text("mine")
    add(folder, 0)
    database = sqlite3.connect(folder.index.path)
    with database:
        database.execute("INSERT INTO entries VALUES ('../../../victim', 1000000000, 'x', 0)")
    database.close()
    folder.max_bytes = 10_000
    add(folder, 1)
    assert victim.exists()


def test_leftovers_of_killed_writers_are_swept(tmp_path: Path) -> None:
    folder = CacheFolder(tmp_path)
    add(folder, 0)
    old, fresh = (tmp_path / "scratch" / f".{i}.{key(i)}.entry" for i in (1, 2))
    for file in (old, fresh):
        file.write_bytes(b"x")
    os.utime(old, (0, 0))
    add(folder, 3)
    assert not old.exists()
    assert fresh.exists()


def test_wrong_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="this is a file"):
        CacheFolder(tmp_path / "file")
    with pytest.raises(DataError, match="max_bytes is 0"):
        CacheFolder(tmp_path, max_bytes=0)


def test_the_default_folder_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEDRESNET3D_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "cache"
    monkeypatch.delenv("MEDRESNET3D_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder().name == "medresnet3d"
