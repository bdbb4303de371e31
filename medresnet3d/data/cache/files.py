"""What an item's files are, as far as a cache can tell: by size and time of change, or by content."""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

Identity = Literal["stat", "content"]
_HEADER_ONLY = (".mhd", ".nhdr", ".hdr", ".img")
"""Files that have, or are, companions of the same name."""
_DATA_FILE = re.compile(r"^\s*(?:ElementDataFile\s*=|data ?file:)\s*(\S.*?)\s*$", re.MULTILINE | re.IGNORECASE)
MAX_HEADER_TEXT = 65536
MAX_PATH = 4096


def item_files(item: Any) -> list[str]:
    """List the files and folders that an item names, however deep in lists and dictionaries, sorted.

    A text counts when something of that name exists.
    """
    return sorted(set(_existing(item)))


def _existing(value: Any) -> Iterator[str]:
    if isinstance(value, (str, os.PathLike)):
        path = os.fspath(value)
        if isinstance(path, str) and 0 < len(path) < MAX_PATH and "\0" not in path and os.path.lexists(path):
            yield path
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _existing(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _existing(each)


def identities(item: Any, by: Identity = "stat") -> list[tuple[str, ...]]:
    """Describe the files of an item so that the description changes when one of them does.

    Folders count with all files in them, and image headers (``.mhd``, ``.nhdr``, ``.hdr``, ``.img``) with the files
    that belong to them.

    Args:
        item: texts that name files, in dictionaries and lists.
        by: ``stat``: full path, size and time of change in nanoseconds. ``content``: SHA-256 of each file, which reads
            it once a process; a copy or a touched file is then the same file.

    Returns:
        a description of each file.
    """
    found: list[tuple[str, ...]] = []
    for name in item_files(item):
        for file in _all_files(Path(name)):
            facts = file.stat()
            real = os.path.realpath(file)
            if by == "stat":
                found.append((real, str(facts.st_size), str(facts.st_mtime_ns)))
            else:
                changed = (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)
                found.append((name, file.name, _content(real, changed)))
    return found


def _all_files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(file for file in path.rglob("*") if file.is_file())
    elif path.is_file():
        yield path
        if path.suffix.lower() in _HEADER_ONLY:
            yield from _companions(path)


def _companions(path: Path) -> Iterator[Path]:
    """Files of the same stem, and the data file that a header names."""
    stem = f"{path.stem}."
    yield from sorted(file for file in path.parent.iterdir() if file.name.startswith(stem) and file != path)
    if path.suffix.lower() in (".mhd", ".nhdr"):
        with path.open("rb") as handle:
            text = handle.read(MAX_HEADER_TEXT).decode("latin-1")
        for found in _DATA_FILE.finditer(text):
            data = path.parent / found.group(1)
            if len(found.group(1)) < MAX_PATH and data.is_file():
                yield data


@functools.lru_cache(maxsize=100_000)
def _content(path: str, changed: tuple[int, ...]) -> str:
    """SHA-256 of a file; ``changed`` makes it be read again when it is another one, whatever its time says."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
