"""The folder of a cache: names, locks, size, eviction. Nothing here needs torch or numpy."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from medresnet3d.data.cache.header import DamagedEntryError, read_header
from medresnet3d.data.cache.index import Index, Listed
from medresnet3d.data.cache.locks import file_lock
from medresnet3d.errors import DataError

SUFFIX = ".entry"
INDEX = "medresnet3d_cache.sqlite"
"""A name that no other program's database has, since one that is damaged is removed."""
LOCK_SECONDS = 600.0
ABANDONED_SECONDS = 3600.0
"""Age of a temporary file whose writer is taken for dead."""
_KEY = re.compile(r"[0-9a-f]{64}")


def default_folder() -> Path:
    """Where caches live unless a folder is named: ``$MEDRESNET3D_HOME/cache``, or the user's cache folder."""
    override = os.environ.get("MEDRESNET3D_HOME")
    if override:
        return Path(override).expanduser() / "cache"
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "medresnet3d"


class CacheFolder:
    """Entries in a folder that several processes fill, read and clear at the same time.

    An entry is one file that appears whole, under the name of its key, and is never changed. A file that is read while
    it is removed stays readable for whoever has it open. Nothing is touched but files of the cache's own names.

    Args:
        path: the folder; made when something is first written. ``None``: :func:`default_folder`.
        max_bytes: size beyond which the longest unused entries are removed; ``None`` for as much as stays free on the
            disk, i.e. half of what is free and cached.

    Raises:
        DataError: if ``path`` is a file or ``max_bytes`` is not positive.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, max_bytes: int | None = None) -> None:
        self.path = default_folder() if path is None else Path(path).expanduser().absolute()
        if self.path.exists() and not self.path.is_dir():
            raise DataError(f"{self.path}: a cache needs a folder, and this is a file; name another one.")
        if max_bytes is not None and max_bytes <= 0:
            raise DataError(f"{self.path}: max_bytes is {max_bytes}; give the size of the cache in bytes, or None.")
        self.max_bytes = max_bytes
        self.index = Index(self.path / INDEX, self._scan)

    def entry(self, key: str) -> Path:
        """Return where the entry ``key`` lies, whether it exists or not."""
        if _KEY.fullmatch(key) is None:
            raise ValueError(f"{key!r} is no key of an entry")
        return self.path / "entries" / key[:2] / f"{key}{SUFFIX}"

    def lock(self, key: str) -> AbstractContextManager[bool]:
        """Keep other processes from making the entry ``key`` at the same time."""
        locks = self.path / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        return file_lock(locks / key, LOCK_SECONDS)

    @contextmanager
    def writing(self, key: str, name: str) -> Iterator[Path]:
        """Give a temporary file that becomes the entry ``key`` of data set ``name`` when the block ends without error.

        Raises:
            DataError: if the disk is full, the folder cannot be written, or the entry alone is larger than the cache.
        """
        from medresnet3d.io.atomic import atomic_path  # its package needs numpy, and listing a cache does not

        self._sweep()
        target = self.entry(key)
        with atomic_path(target, scratch=self.path / "scratch", durable=False) as temporary:
            yield temporary
            size = temporary.stat().st_size
            limit = self.limit()
            if size > limit:
                raise DataError(
                    f"{self.path}: an entry of {size / 1e9:.3g} GB is larger than the whole cache may be "
                    f"({limit / 1e9:.3g} GB); raise max_bytes."
                )
        self.note(key, size, name)
        self._evict(limit, key)

    def note(self, key: str, size: int, name: str) -> None:
        """Note in the index that an entry exists and was used now; an index that cannot be written is left alone."""
        try:
            self.index.put(key, size, name)
        except (sqlite3.Error, OSError):
            return  # only the order of eviction suffers

    def remove(self, key: str) -> None:
        """Remove an entry."""
        self.entry(key).unlink(missing_ok=True)
        self._forget([key])

    def limit(self) -> int:
        """Return the size that the cache may have, in bytes."""
        if self.max_bytes is not None:
            return self.max_bytes
        return (shutil.disk_usage(self.path).free + self._total()) // 2

    def listing(self) -> list[Listed]:
        """List the entries, the longest unused first."""
        if not (self.path / "entries").is_dir():
            return []  # and make no index in a folder that is no cache
        try:
            return self.index.all()
        except (sqlite3.Error, OSError):
            return sorted(self._scan(), key=lambda entry: entry.used)  # a folder that cannot be written

    def clear(self, name: str | None = None, unused_days: float = 0.0) -> tuple[int, int]:
        """Remove entries, whatever else lies in the folder.

        Args:
            name: those of one data set; ``None`` for all.
            unused_days: those that have not been used for so long.

        Returns:
            number of entries and bytes removed.

        Raises:
            DataError: if they cannot be removed.
        """
        before = time.time() - unused_days * 86400
        listed = self._scan() if name is None and unused_days <= 0 else self.listing()
        gone = [entry for entry in listed if name in (None, entry.name) and (unused_days <= 0 or entry.used < before)]
        try:
            for entry in gone:
                self.entry(entry.key).unlink(missing_ok=True)
        except OSError as error:
            raise DataError(f"{self.path}: entries cannot be removed ({error.strerror}).") from error
        if gone:
            self._forget([entry.key for entry in gone])
        return len(gone), sum(entry.size for entry in gone)

    def _evict(self, limit: int, keep: str) -> None:
        try:
            for key in self.index.take_oldest(limit, keep):
                if _KEY.fullmatch(key):
                    self.entry(key).unlink(missing_ok=True)
        except (sqlite3.Error, OSError):
            return  # the next writer tries again

    def _total(self) -> int:
        try:
            return self.index.total()
        except (sqlite3.Error, OSError):
            return 0

    def _forget(self, keys: list[str]) -> None:
        try:
            self.index.remove(keys)
        except (sqlite3.Error, OSError):
            return  # a missing file in the index only makes the cache look larger until it is evicted

    def _scan(self) -> Iterator[Listed]:
        """The entries that lie in the folder, from the files themselves."""
        for folder in sorted((self.path / "entries").glob("[0-9a-f][0-9a-f]")):
            for file in os.scandir(folder):
                key = file.name.removesuffix(SUFFIX)
                if _KEY.fullmatch(key) is None or not file.name.endswith(SUFFIX):
                    continue
                facts = file.stat()
                yield Listed(key, facts.st_size, _name(Path(file.path)), facts.st_mtime)

    def _sweep(self) -> None:
        """Remove what processes that were killed have left."""
        scratch = self.path / "scratch"
        if not scratch.is_dir():
            return
        for file in os.scandir(scratch):
            if file.name.endswith(SUFFIX) and time.time() - file.stat().st_mtime > ABANDONED_SECONDS:
                Path(file.path).unlink(missing_ok=True)


def _name(path: Path) -> str:
    try:
        return str(read_header(path).get("name", ""))
    except (DamagedEntryError, OSError):
        return "damaged"
