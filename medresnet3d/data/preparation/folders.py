"""Finding the files of an official unpacking, with a folder more or less above them and any case in their names."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

from medresnet3d.data.cases import natural_key, stem
from medresnet3d.errors import DataError

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".pgm")
SINGLE_FILES = (".npz", ".csv", ".tsv", ".xls", ".xlsx", ".json")
_NOISE = ("thumbs.db", "desktop.ini", "__macosx")
_WILD = {"*": "[^/]*", "?": "[^/]"}
MAX_SHOWN = 8


class Folder:
    """The folder that a user gives, searched by the tail of its files' paths.

    A pattern such as ``"AllXML/*.xml"`` fits every file whose path *ends* so: it does not matter whether the user gives
    the folder that was unpacked, one above, or one below. Case does not matter either. ``*`` stands for any part of one
    name, ``**`` for any number of folders. Hidden files, ``Thumbs.db`` and ``__MACOSX`` are never seen.

    Args:
        root: the folder, or one file of it that a data set consists of (a table, an array file): :attr:`given`.
        title: of the data set, for messages.

    Raises:
        DataError: if there is no such folder.
    """

    def __init__(self, root: str | os.PathLike[str], title: str) -> None:
        self.root = Path(root).expanduser()
        self.title = title
        self.given: Path | None = None
        if self.root.is_file() and self.root.suffix.lower() in SINGLE_FILES:
            self.given = self.root.resolve()
            self.root = self.root.parent
        if not self.root.is_dir():
            kind = "is a file" if self.root.exists() else "no such folder"
            hint = "unpack it and give the folder" if self.root.exists() else "check the path"
            raise DataError(f"{self.root}: {kind}; {hint} that {title} was unpacked to.")

    @cached_property
    def _paths(self) -> list[tuple[str, Path]]:
        """Each file's path in small letters, with the folders above the root, and as it is; in natural order."""
        start = self.root.resolve()
        found = [(path.as_posix().casefold(), path) for path in _walk(start)]
        return sorted(found, key=lambda pair: natural_key(pair[0]))

    def files(self, *patterns: str) -> list[Path]:
        """All files that fit one of ``patterns``, in natural order (``scan2`` before ``scan10``)."""
        wanted = re.compile("|".join(_tail_expression(pattern) for pattern in patterns))
        return [path for name, path in self._paths if wanted.search(name)]

    def file(self, *patterns: str) -> Path | None:
        """The file that fits the first pattern that any fits; the one least deep, where there are several."""
        for pattern in patterns:
            found = self.files(pattern)
            if found:
                return min(found, key=lambda path: len(path.parts))
        return None

    def require(self, what: str, *patterns: str) -> list[Path]:
        """All files that fit one of ``patterns``.

        Args:
            what: what they are, for the message: ``"fundus photographs"``.
            patterns: see :class:`Folder`.

        Raises:
            DataError: if there are none; the message says what was looked for and what is there instead.
        """
        found = self.files(*patterns)
        if not found:
            raise DataError(
                f"{self.root}: holds no {what} (looked for {' or '.join(patterns)}); it holds {self.describe()}. "
                f"Give the folder that {self.title} was unpacked to."
            )
        return found

    def pictures(self, what: str, *folders: str, names: str = "*") -> Pictures:
        """All pictures in the folders that fit ``folders`` (``"**"`` for anywhere), by stem.

        Args:
            what: for the message.
            folders: patterns of the folders.
            names: pattern of the stems.

        Raises:
            DataError: if there are none.
        """
        return Pictures(self.require(what, *(f"{folder}/{names}{suffix}" for folder in folders for suffix in PICTURES)))

    def describe(self) -> str:
        """What lies in the folder, in a few words: its first entries and the kinds of files below."""
        entries = sorted(self.root.iterdir(), key=lambda path: natural_key(path.name))
        names = [f"{path.name}/" if path.is_dir() else path.name for path in entries if not _is_noise(path.name)]
        if not names:
            return "nothing"
        more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
        kinds = Counter(path.suffix.lower() or "no suffix" for _, path in self._paths)
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(4))
        return f"{', '.join(names[:MAX_SHOWN])}{more} (files below: {listed or 'none'})"


class Pictures(Mapping[str, Path]):
    """Files by a key that is compared without case: the stem, if nothing else is said; remembers which were asked for.

    Args:
        paths: the files; of several with one key the first counts.
        key: makes the key of a file.
    """

    def __init__(self, paths: Iterable[Path], key: Callable[[Path], str] = stem) -> None:
        self._files: dict[str, Path] = {}
        for path in paths:
            self._files.setdefault(key(path).casefold(), path)
        self._used: set[str] = set()

    def __getitem__(self, key: str) -> Path:
        """Give a file and remember that it was asked for.

        Raises:
            KeyError: if there is none.
        """
        path = self._files[key.strip().casefold()]
        self._used.add(key.strip().casefold())
        return path

    def __iter__(self) -> Iterator[str]:
        """Give the keys, in small letters."""
        return iter(self._files)

    def __len__(self) -> int:
        """Count the files."""
        return len(self._files)

    def unused(self) -> list[Path]:
        """The files that nobody has asked for."""
        return [path for key, path in self._files.items() if key not in self._used]


def _walk(start: Path) -> Iterator[Path]:
    """Yield every file below ``start``, through links to folders too, each folder once."""
    seen: set[tuple[int, int]] = set()
    for folder, subfolders, names in os.walk(start, followlinks=True):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not _is_noise(name))
        yield from (Path(folder, name) for name in names if not _is_noise(name))


def _is_noise(name: str) -> bool:
    return name.startswith(".") or name.casefold() in _NOISE


def _tail_expression(pattern: str) -> str:
    """A regular expression for paths in small letters that end as ``pattern`` says."""
    parts = []
    for part in pattern.casefold().split("/"):
        if part == "**":
            parts.append("(?:[^/]+/)*")
        else:
            pieces = re.split(r"(\*|\?|\[[^\]]+\])", part)
            parts.append(
                "".join(_WILD.get(piece, piece if piece[:1] == "[" else re.escape(piece)) for piece in pieces) + "/"
            )
    return "/" + "".join(parts).removesuffix("/") + "$"
