"""Entries made when they are first asked for, by one process at a time, and opened once in each."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

from medresnet3d.data.cache.entry import Entry, raw_bytes, write_entry
from medresnet3d.data.cache.folder import CacheFolder
from medresnet3d.data.cache.header import DamagedEntryError
from medresnet3d.data.cache.index_sets import IndexSet
from medresnet3d.data.cache.values import UncacheableError
from medresnet3d.errors import DataError

Storage = Literal["auto", "raw", "compressed"]
Verify = Literal["once", "always", "never"]
MAX_OPEN = 128
"""Entries that a process keeps mapped; each needs a file descriptor."""


class EntryStore:
    """Opens, makes and repairs the entries of one data set.

    Args:
        folder: where they lie.
        name: data set, for ``medresnet3d data cache info``.
        storage: ``raw``, ``compressed``, or ``auto``: raw where all ``items`` would fit into the cache so.
        items: number of items of the data set.
        half_precision: see :class:`~medresnet3d.data.cache.dataset.DiskCacheDataset`.
        verify: when to compare an entry with its checksums: when this process first opens it, whenever it is opened,
            or never.
    """

    def __init__(
        self, folder: CacheFolder, name: str, storage: Storage, items: int, half_precision: bool, verify: Verify
    ) -> None:
        self.folder = folder
        self.name = name
        self.storage = storage
        self.items = items
        self.half_precision = half_precision
        self.verify = verify
        self._checked: set[str] = set()
        self._opened: dict[str, Entry] = {}
        self._told: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Leave what is open behind: another process opens its own."""
        return {**self.__dict__, "_opened": {}, "_checked": set()}

    def get(
        self, key: str, make: Callable[[], Any], voxels: Callable[[Any], Mapping[str, IndexSet]]
    ) -> tuple[Entry | None, Any]:
        """Return an entry, made if need be; or the item itself, where it cannot be stored.

        Args:
            key: of the entry.
            make: computes the item.
            voxels: gives the voxels to draw crop centres from.
        """
        entry = self._open(key)
        if entry is not None:
            return entry, None
        try:
            lock = self.folder.lock(key)
        except OSError as error:
            self._tell(f"it cannot be written ({error.strerror})")
            return None, make()
        with lock:
            entry = self._open(key)
            if entry is not None:
                return entry, None
            item = make()
            return (self._open(key), item) if self._write(key, item, voxels(item)) else (None, item)

    def _open(self, key: str) -> Entry | None:
        entry = self._opened.get(key)
        if entry is not None:
            return entry
        check = self.verify == "always" or (self.verify == "once" and key not in self._checked)
        try:
            entry = Entry(self.folder.entry(key), check)
        except FileNotFoundError:
            return None
        except (DamagedEntryError, OSError) as error:
            self.discard(key, error)
            return None
        if key not in self._checked:
            self._checked.add(key)
            self.folder.note(key, entry.size, self.name)
        if len(self._opened) >= MAX_OPEN:
            self._opened.pop(next(iter(self._opened)), None)
        self._opened[key] = entry
        return entry

    def discard(self, key: str, error: Exception) -> None:
        """Remove an entry that turned out damaged, and say so."""
        warnings.warn(f"{self.folder.entry(key)} is damaged ({error}); it is made anew.", stacklevel=2)
        self._opened.pop(key, None)
        self._checked.discard(key)
        try:
            self.folder.remove(key)
        except OSError as failure:
            self._tell(f"a damaged entry cannot be removed ({failure.strerror})")

    def _write(self, key: str, item: Any, sets: Mapping[str, IndexSet]) -> bool:
        try:
            compress = self._compressed(item)
            with self.folder.writing(key, self.name) as path:
                write_entry(path, item, sets, self.name, compress, self.half_precision)
        except UncacheableError as error:
            self._tell(f"{error}, which it cannot store")
            return False
        except (DataError, OSError) as error:
            self._tell(str(error).replace(str(self.folder.entry(key)), "its folder"))
            return False
        return True

    def _compressed(self, item: Any) -> bool:
        if self.storage != "auto":
            return self.storage == "compressed"
        self.folder.path.mkdir(parents=True, exist_ok=True)
        return raw_bytes(item) * self.items > self.folder.limit()

    def _tell(self, reason: str) -> None:
        """Say once why something is not cached."""
        if reason not in self._told:
            self._told.add(reason)
            warnings.warn(
                f"The cache {self.folder.path} is not used for every item of {self.name!r}: {reason}; "
                "they are computed each time.",
                stacklevel=2,
            )
