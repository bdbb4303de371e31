"""Reading the first scan while the libraries for the network are being imported, which takes seconds."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from medresnet3d.errors import MedResNetError
from medresnet3d.io import Volume, known_suffix, load
from medresnet3d.io.reading import ITK_SUFFIXES, NIFTI_SUFFIXES


class EarlyReading:
    """Reads the first of some cases in a thread that starts at once.

    Args:
        items: from :func:`medresnet3d.data.inputs`.
        series: which DICOM series to take where there are several.
        strict: refuse a DICOM series whose geometry would have to be repaired.
    """

    def __init__(self, items: Iterable[Mapping[str, Any]], series: str | None = None, strict: bool = False) -> None:
        self._items = [dict(item) for item in items]
        self._volumes: list[Volume] = []
        self._seconds = 0.0
        self._series, self._strict = series, strict
        self._thread: threading.Thread | None = None
        if self._items:
            # Imported here and not in the thread: two threads that import each other's modules may see half of one.
            importlib.import_module(_reader(self._paths()[0]))
            self._thread = threading.Thread(target=self._read, name="early reading", daemon=True)
            self._thread.start()

    def items(self) -> Iterator[dict[str, Any]]:
        """Yield the items, the first one with its volumes; where it could not be read it stays as it was."""
        if self._thread is None:
            return
        self._thread.join()
        volumes, self._volumes = self._volumes, []
        first, *others = self._items
        if volumes:
            image = volumes if isinstance(first["image"], list) else volumes[0]
            first = {**first, "image": image, "reading_seconds": self._seconds}
        del volumes
        yield first
        yield from others

    def _paths(self) -> list[Any]:
        image = self._items[0]["image"]
        return image if isinstance(image, list) else [image]

    def _read(self) -> None:
        started = time.perf_counter()
        try:
            self._volumes = [load(path, self._series, strict=self._strict) for path in self._paths()]
        except (MedResNetError, OSError):
            self._volumes = []  # whoever reads it next says why
        self._seconds = time.perf_counter() - started


def _reader(path: Any) -> str:
    """The library that a file needs."""
    suffix = known_suffix(path)
    if suffix in NIFTI_SUFFIXES:
        return "nibabel"
    return "SimpleITK" if suffix in ITK_SUFFIXES else "medresnet3d.io.dicom"
