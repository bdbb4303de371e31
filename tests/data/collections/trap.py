"""What the tests of traps share: files written by hand, prepared, and the entries read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medresnet3d.data.preparation.prepare import prepare


def write(path: Path, content: str | bytes) -> Path:
    """Write a file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def paint(path: Path, pixels: Any = None) -> Path:
    """Write a picture: the pixels, or small noise that is another for each name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels is None:
        pixels = np.random.default_rng(list(str(path.name).encode())).integers(0, 255, (6, 8, 3))
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)
    return path


class Result:
    """A prepared folder.

    Args:
        name: of the data set.
        root: its folder; the manifest is written beside it.
        options: of :func:`medresnet3d.data.preparation.prepare.prepare`; no folds unless they are asked for.
    """

    def __init__(self, name: str, root: Path, **options: Any) -> None:
        done = prepare(name, root, root.parent / f"{root.name}.json", **{"folds": 0, **options})
        self.path = done.path
        self.raw: dict[str, Any] = json.loads(done.path.read_text())
        self.dropped = {reason: dropped.count for reason, dropped in done.report.dropped.items()}
        self.warnings = done.report.warnings

    def entries(self, section: str | None = None) -> list[dict[str, Any]]:
        """The entries of a section, or of all."""
        sections = [section] if section else ["training", "validation", "test"]
        return [entry for name in sections for entry in self.raw.get(name, [])]

    def by_name(self) -> dict[str, dict[str, Any]]:
        """All entries by the name of their image."""
        return {Path(entry["image"]).name: entry for entry in self.entries()}

    def values(self, key: str) -> dict[str, Any]:
        """One key of all entries by the name of their image."""
        return {name: entry.get(key) for name, entry in self.by_name().items()}

    def file(self, listed: str) -> Path:
        """A file that the manifest lists."""
        return (self.path.parent / self.raw.get("root", "") / listed).resolve()

    def mask(self, name: str) -> np.ndarray:
        """The label map (rows, columns) of the image called ``name``."""
        return np.asarray(Image.open(self.file(self.by_name()[name]["mask"])))
