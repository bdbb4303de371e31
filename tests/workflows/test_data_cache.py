from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medresnet3d.data.cache.entry import write_entry
from medresnet3d.data.cache.folder import CacheFolder
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.workflows.data_cache import age_text, cache_info, clear_cache, size_text


def fill(path: Path) -> CacheFolder:
    folder = CacheFolder(path)
    for number, name in enumerate(["lungs", "lungs", "brains"]):
        with folder.writing(f"{number:064x}", name) as file:
            write_entry(file, {"image": torch.rand(1000)}, {}, name)
    return folder


def test_what_lies_there_by_data_set(tmp_path: Path) -> None:
    fill(tmp_path)
    path, found = cache_info(tmp_path)
    assert path == tmp_path
    assert [(each.name, each.entries) for each in found] == [("lungs", 2), ("brains", 1)]
    assert found[0].bytes > 8000
    assert found[0].first_used <= found[0].last_used


def test_clearing_by_data_set_and_by_age(tmp_path: Path) -> None:
    folder = fill(tmp_path)
    assert clear_cache(tmp_path, unused_days=1) == (0, 0)
    assert clear_cache(tmp_path, "brains")[0] == 1
    assert [entry.name for entry in folder.listing()] == ["lungs", "lungs"]
    assert clear_cache(tmp_path)[0] == 2
    assert cache_info(tmp_path)[1] == []


def test_a_folder_that_is_no_cache_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    assert cache_info(tmp_path)[1] == []
    assert clear_cache(tmp_path) == (0, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_wrong_use_is_explained(tmp_path: Path) -> None:
    fill(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        cache_info(tmp_path / "missing")
    with pytest.raises(ConfigError, match="no data set 'hearts' in this cache; it has brains, lungs"):
        clear_cache(tmp_path, "hearts")
    with pytest.raises(ConfigError, match="unused-days is -1"):
        clear_cache(tmp_path, unused_days=-1)


def test_texts_for_a_person() -> None:
    assert [size_text(size) for size in (0, 999, 1500, 2_000_000_000, 10**16)] == [
        *("0 B", "999 B", "1.5 kB", "2.0 GB", "10000.0 TB")
    ]
    import time

    now = time.time()
    assert [age_text(now - seconds) for seconds in (0, 120, 7200, 3 * 86400)] == ["now", "2 min", "2 h", "3 d"]
