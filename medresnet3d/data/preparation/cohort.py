"""The cohort that an adapter fills: entries with their groups, and everything dropped with the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medresnet3d.data.preparation.cards import Card, Task
from medresnet3d.data.preparation.folders import Folder, Pictures
from medresnet3d.errors import DataError

IMAGE_MISSING = "image file missing"
MASK_MISSING = "mask file missing"
MAX_EXAMPLES = 3


@dataclass(frozen=True)
class DerivedFile:
    """A file that the official unpacking does not have and that is written beside the manifest.

    Args:
        name: path below the folder of derived files.
        write: writes it to the path that it is given.
    """

    name: str
    write: Callable[[Path], None]


Image = Path | DerivedFile
Known = dict[str, Any]
"""Keyword arguments of :meth:`Cohort.add`: truth, or what else is known."""


@dataclass
class Dropped:
    """What was left out for one reason.

    Args:
        count: of rows or files.
        examples: the first few.
    """

    count: int = 0
    examples: list[str] = field(default_factory=list)


class Cohort:
    """What an adapter fills while it reads a folder.

    Args:
        card: of the data set.
        task: what the entries are for; ``task.labels`` are the class names, ``task.kind`` says what the truth is.
        folder: the official unpacking.
        seed: for whatever the adapter draws.
    """

    def __init__(self, card: Card, task: Task, folder: Folder, seed: int = 0) -> None:
        self.card = card
        self.task = task
        self.folder = folder
        self.seed = seed
        self.labels: tuple[str, ...] = task.labels
        self.group_kind = card.split_unit
        self.entries: list[tuple[str, dict[str, Any]]] = []
        self.dropped: dict[str, Dropped] = {}
        self.warnings: list[str] = []

    def add(
        self,
        image: Image | Sequence[Image],
        *,
        patient: str | int,
        section: str = "training",
        label: str | float | list[str] | None = None,
        mask: Image | None = None,
        boxes: list[list[float]] | None = None,
        fold: int | None = None,
        position: tuple[float, float, float] | None = None,
        **more: Any,
    ) -> None:
        """List one image.

        Args:
            image: its file, or one for each modality.
            patient: or the finest honest group; an entry without one cannot be split honestly and is dropped.
            section: ``training``, ``validation`` or ``test``, where the official split says so.
            label: class name, or the number to regress; for boxes a name for each.
            mask: label map on the image's grid.
            boxes: for detection: lowest corner first; pixels of a picture, mm (RAS+) of a volume.
            fold: where the official split has folds.
            position: of a point in a whole scan, mm, RAS+.
            more: whatever else is known (age, sex, site); ``None`` and ``""`` are left out.

        Raises:
            DataError: if a class name is not among the labels of the task (a slip of the adapter).
        """
        if self.task.kind == "classification" and label not in self.labels:
            raise DataError(
                f"{self.card.name}: {label!r} is none of the classes {', '.join(self.labels)} of {self.task.name}."
            )
        if not str(patient).strip():
            self.drop(f"no {self.group_kind} named", _name(image))
            return
        known: Known = {"image": image, "label": label, "mask": mask, "boxes": boxes}
        known |= {"patient": str(patient), "fold": fold, "position": list(position) if position is not None else None}
        entry = {key: value for key, value in known.items() if value is not None}
        self.entries.append((section, entry | {key: value for key, value in more.items() if value not in (None, "")}))

    def drop(self, reason: str, what: object = "", count: int = 1) -> None:
        """Count something that is left out, with the reason that is printed."""
        there = self.dropped.setdefault(reason, Dropped())
        there.count += count
        if what != "" and len(there.examples) < MAX_EXAMPLES:
            there.examples.append(str(what))

    def warn(self, text: str) -> None:
        """Say something once that a person must know about this cohort."""
        if text not in self.warnings:
            self.warnings.append(text)

    def find(self, files: Pictures, key: str, reason: str = IMAGE_MISSING) -> Path | None:
        """The file of a row, or ``None`` when it is missing, which is counted under ``reason``."""
        path = files.get(key)
        if path is None:
            self.drop(reason, key)
        return path

    def pick(self, classes: Mapping[str, str], value: str, what: object = "") -> str | None:
        """The class of a value (compared without case), or ``None`` when it has none, which is counted."""
        plain = {key.casefold(): name for key, name in classes.items()}
        label = plain.get(value.strip().casefold())
        if label is None:
            self.drop(f"label {value.strip()!r} is no class of this task" if value.strip() else "no label", what)
        return label

    def drop_unused(self, files: Pictures, reason: str) -> None:
        """Count the files that no row asked for."""
        for path in files.unused():
            self.drop(reason, path.name)

    def label_map(self, name: str, make: Callable[[], NDArray[Any]], like: Path | None = None) -> DerivedFile:
        """A label map that is written beside the manifest: as PNG, or as NIfTI for an image that has a geometry.

        Args:
            name: path below the folder of derived files, without suffix.
            make: gives the map (rows, columns) with class numbers 0 to 255.
            like: a picture in DICOM, whose geometry the map must have.
        """
        if like is None:
            return DerivedFile(f"masks/{name}.png", lambda path: write_png(path, make().astype(np.uint8)))
        return DerivedFile(f"masks/{name}.nii.gz", lambda path: _write_like(path, make().astype(np.uint8), like))


def _name(image: Image | Sequence[Image]) -> str:
    first = image[0] if isinstance(image, Sequence) else image
    return Path(first.name).name


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write pixels (rows, columns) or (rows, columns, 3) as PNG, quickly rather than small."""
    from PIL import Image as Pillow

    Pillow.fromarray(pixels).save(path, format="PNG", compress_level=1)


def _write_like(path: Path, rows: NDArray[np.uint8], like: Path) -> None:
    """Write a map (rows, columns) as NIfTI on the grid of a picture of one slice."""
    from medresnet3d.io import load, save_nifti

    volume = load(like, constant_ok=True)
    save_nifti(rows.T[..., None], volume.affine, path, like=volume)
