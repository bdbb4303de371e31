"""What lies in a cache folder, by data set, and removing it."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

from medresnet3d.data.cache.folder import CacheFolder
from medresnet3d.data.cache.index import Listed
from medresnet3d.errors import ConfigError, DataError


@dataclass(frozen=True)
class CachedDataset:
    """What one data set has in a cache.

    Attributes:
        name: the data set.
        entries: number of items; an item prepared in two ways counts twice.
        bytes: size on disk.
        first_used: when the longest unused entry was last used, in seconds since 1970.
        last_used: when any entry was last used.
    """

    name: str
    entries: int
    bytes: int
    first_used: float
    last_used: float

    def as_dict(self) -> dict[str, object]:
        """Return the attributes, for JSON."""
        return asdict(self)


def cache_info(folder: Path | None = None) -> tuple[Path, list[CachedDataset]]:
    """Sum up a cache folder.

    Args:
        folder: the folder; ``None`` for the user's own.

    Returns:
        the folder, and its data sets, the largest first.

    Raises:
        DataError: if a named folder does not exist or is a file.
    """
    cache = _open(folder)
    groups: dict[str, list[Listed]] = defaultdict(list)
    for entry in cache.listing():
        groups[entry.name].append(entry)
    found = [
        CachedDataset(
            name,
            len(entries),
            sum(entry.size for entry in entries),
            min(entry.used for entry in entries),
            max(entry.used for entry in entries),
        )
        for name, entries in groups.items()
    ]
    return cache.path, sorted(found, key=lambda each: (-each.bytes, each.name))


def clear_cache(
    folder: Path | None = None, name: str | None = None, unused_days: float | None = None
) -> tuple[int, int]:
    """Remove entries from a cache folder; nothing else in it is touched.

    Args:
        folder: the folder; ``None`` for the user's own.
        name: only those of one data set.
        unused_days: only those that have not been used for so many days.

    Returns:
        number of entries and bytes removed.

    Raises:
        DataError: if a named folder does not exist, is a file, or cannot be changed.
        ConfigError: if there is no such data set, or ``unused_days`` is negative.
    """
    if unused_days is not None and unused_days < 0:
        raise ConfigError(f"--unused-days is {unused_days:g}; give 0 or more.")
    cache = _open(folder)
    if name is not None:
        names = sorted({entry.name for entry in cache.listing()})
        if name not in names:
            known = f"it has {', '.join(names)}" if names else "it is empty"
            raise ConfigError(f"{cache.path}: there is no data set {name!r} in this cache; {known}.")
    return cache.clear(name, unused_days or 0.0)


def _open(folder: Path | None) -> CacheFolder:
    if folder is not None and not folder.exists():
        raise DataError(f"{folder}: there is no such folder; name the cache_dir that a training was given.")
    return CacheFolder(folder)


def size_text(size: int) -> str:
    """Write a number of bytes for a person."""
    value, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def age_text(used: float) -> str:
    """Write how long ago something was used, for a person."""
    seconds = max(0.0, time.time() - used)
    for limit, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= limit:
            return f"{seconds / limit:.0f} {unit}"
    return "now"
