"""The files of one manifest entry: are they there, can they be read, and do image and mask belong together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medresnet3d.data.manifest import listed_files
from medresnet3d.errors import DataError, MedResNetError
from medresnet3d.io import Volume, load, require_same_grid

PLAIN_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
MAX_VALUES_SHOWN = 5


class FileCheck:
    """Looks at the files of entries one by one and keeps count of the labels in their masks.

    Args:
        task: of the manifest; what is to be converted is not read.
        classes: number of classes; 0 if the manifest names none.
        deep: read the files, not only their names and sizes.
    """

    def __init__(self, task: str, classes: int, deep: bool) -> None:
        self.task = task
        self.classes = classes
        self.deep = deep and task != "conversion"
        self.fingerprint: str | None = None
        self._seen: set[int] = set()
        self._masks = 0

    def problems(self, entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield kind and sentence of everything wrong with an entry's files; sets :attr:`fingerprint` of its image."""
        self.fingerprint = None
        absent = False
        for key, name in listed_files(entry):
            text = _absent(Path(name))
            if text:
                absent = True
                yield "file", f"the {key} {name} {text}"
        if absent:
            return
        if not self.deep:
            self.fingerprint = _fingerprint_of_bytes(entry)
            return
        try:
            yield from self._read(entry)
        except MedResNetError as error:
            yield "file", str(error)

    def unused_labels(self, names: tuple[str, ...]) -> list[tuple[str, int]]:
        """Give name and number of labels that no mask of a segmentation had, the background left out."""
        if self.task != "segmentation" or not self._masks:
            return []
        return [(name, index) for index, name in enumerate(names) if index and index not in self._seen]

    def _read(self, entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        image = entry["image"]
        parts = [_read(Path(name)) for name in (image if isinstance(image, list) else [image])]
        digest = hashlib.sha256()
        for part in parts:
            digest.update(repr(part.array.shape).encode() + np.ascontiguousarray(part.array).tobytes())
        self.fingerprint = digest.hexdigest()
        for other in parts[1:]:
            yield from _grid_problem(parts[0], other)
        if "mask" in entry:
            mask = _read(Path(entry["mask"]), constant_ok=True)
            yield from _grid_problem(parts[0], mask)
            yield from self._mask_problems(mask)

    def _mask_problems(self, mask: Volume) -> Iterator[tuple[str, str]]:
        values = np.unique(mask.array)
        self._masks += 1
        name = mask.source.name
        if (values != np.round(values)).any():
            yield "mask", f"the mask {name} has values that are no whole numbers; save it as a label map."
            return
        self._seen.update(int(value) for value in values)
        outside = values[(values < 0) | (values >= self.classes)]
        if self.task == "segmentation" and self.classes and outside.size:
            shown = ", ".join(f"{value:g}" for value in outside[:MAX_VALUES_SHOWN])
            more = " …" if outside.size > MAX_VALUES_SHOWN else ""
            yield (
                "mask",
                f"the mask {name} has the values {shown}{more}, but the labels go from 0 to {self.classes - 1}.",
            )
        if values.size == 1 and values[0] == 0:
            yield "empty mask", f"the mask {name} is empty; is nothing there, or was it not drawn?"


def _absent(path: Path) -> str | None:
    """Say why there is nothing to read at a path."""
    if not path.exists():
        return "does not exist; correct the path."
    if path.is_file() and path.stat().st_size == 0:
        return "is an empty file; copy it again from its source."
    if path.is_dir() and not any(path.iterdir()):
        return "is an empty folder; copy it again from its source."
    return None


def _fingerprint_of_bytes(entry: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for key, name in listed_files(entry):
        path = Path(name)
        if key == "image":
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file():
                    with file.open("rb") as handle:
                        digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def _read(path: Path, constant_ok: bool = False) -> Volume:
    """Read a scan, or a plain image as one slice."""
    if path.suffix.lower() not in PLAIN_SUFFIXES:
        return load(path, constant_ok=constant_ok)
    from skimage.io import imread

    from medresnet3d.io import Source

    try:
        pixels: NDArray[Any] = np.asarray(imread(path))
    except (OSError, ValueError, SyntaxError) as error:  # Pillow reports damaged files as any of these
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: cannot be read as an image ({reason}); copy it again from its source.") from error
    return Volume(np.atleast_3d(pixels), np.eye(4), source=Source(path))


def _grid_problem(first: Volume, other: Volume) -> Iterator[tuple[str, str]]:
    if first.source.format == other.source.format == "array":  # plain images: colours are no third axis
        if first.array.shape[:2] != other.array.shape[:2]:
            yield (
                "geometry",
                f"{other.source.name} has {other.array.shape[:2]} pixels and {first.source.name} "
                f"{first.array.shape[:2]}; they must be the same.",
            )
        return
    try:
        require_same_grid(first, other)
    except DataError as error:
        yield "geometry", str(error)
