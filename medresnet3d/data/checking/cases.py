"""The files of one case: are they there, can they be read, do they belong together, and what is in them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medresnet3d.data.checking.boxes import box_problems
from medresnet3d.data.checking.facts import ImageFacts, image_facts, label_counts, voxel_digest
from medresnet3d.data.checking.findings import Level
from medresnet3d.data.checking.hounsfield import is_ct
from medresnet3d.data.checking.ledger import CaseFiles
from medresnet3d.data.likeness import array_signs
from medresnet3d.errors import DataError, MedResNetError
from medresnet3d.io import Volume, load, load_header, require_same_grid

MOST_VALUES_SHOWN = 5
ENDS = 1 << 16


@dataclass
class Look:
    """What was seen of a case.

    Args:
        problems: level, kind and sentence of everything that is wrong.
        size: bytes of its images, if they are all there.
        digest: of the voxels of its images, if they were read.
        signs: of a picture, to compare it with others.
        images: what is known of each image that could be read.
        labels: voxels of each value of the mask, if it was read and is a label map.
    """

    problems: list[tuple[Level, str, str]] = field(default_factory=list)
    size: int | None = None
    digest: bytes | None = None
    signs: bytes | None = None
    images: list[ImageFacts] = field(default_factory=list)
    labels: dict[int, int] | None = None


@dataclass(frozen=True)
class CaseLooker:
    """Looks at the files of cases; several threads may do so at once.

    Args:
        task: of the manifest; what is to be converted is not opened.
        classes: number of classes; 0 if the manifest names none.
        modality: of the manifest; several are separated by commas.
        deep: read voxels, not only headers.
    """

    task: str
    classes: int
    modality: str
    deep: bool

    def __call__(self, case: CaseFiles) -> Look:
        """Look at one case; whatever goes wrong is one of its problems."""
        look = Look()
        files = [("image", name) for name in case.images] + ([("mask", case.mask)] if case.mask else [])
        for key, name in files:
            text = absent(Path(name))
            if text:
                look.problems.append(("error", "file", f"the {key} {name} {text}"))
        if look.problems:
            return look
        look.size = sum(total_size(Path(name)) for name in case.images)
        if self.task == "conversion":
            return look
        try:
            self._read(case, look)
        except MedResNetError as error:
            look.problems.append(("error", "file", str(error)))
        except Exception as error:  # readers of other libraries raise whatever a damaged file makes them stumble over
            text = f"{case.images[0]}: cannot be read ({type(error).__name__}: {error}); copy it again from its source."
            look.problems.append(("error", "file", text))
        return look

    def _read(self, case: CaseFiles, look: Look) -> None:
        volumes = [load(name) if self.deep else load_header(name) for name in case.images]
        for channel, volume in enumerate(volumes):
            ct = is_ct(volume.modality or self._modality(channel, len(volumes)))
            look.images.append(image_facts(volume, ct=ct, deep=self.deep))
        for other in volumes[1:]:
            look.problems.extend(_grid_problems(volumes[0], other))
        if self.deep:
            look.digest = voxel_digest(volumes)
            look.signs = _signs(volumes[0])
        look.problems.extend(box_problems(volumes[0], case.boxes) if case.boxes else ())
        if case.mask:
            mask = load(case.mask, constant_ok=True) if self.deep else load_header(case.mask)
            look.problems.extend(_grid_problems(volumes[0], mask))
            if self.deep:
                look.problems.extend(self._mask_problems(mask, look))

    def _modality(self, channel: int, count: int) -> str:
        parts = [part.strip() for part in self.modality.split(",")]
        return parts[channel] if len(parts) == count else self.modality

    def _mask_problems(self, mask: Volume, look: Look) -> Iterator[tuple[Level, str, str]]:
        counts = label_counts(mask.array)
        name = mask.source.name
        if any(value != round(value) for value in counts):
            yield "error", "mask", f"the mask {name} has values that are no whole numbers; save it as a label map."
            return
        look.labels = {int(value): count for value, count in counts.items()}
        outside = [value for value in look.labels if not 0 <= value < self.classes]
        if self.task == "segmentation" and self.classes and outside:
            shown = ", ".join(map(str, outside[:MOST_VALUES_SHOWN])) + (
                " …" if len(outside) > MOST_VALUES_SHOWN else ""
            )
            text = f"the mask {name} has the values {shown}, but the labels go from 0 to {self.classes - 1}."
            yield "error", "mask", text
        if list(look.labels) == [0]:
            yield "warning", "mask", f"the mask {name} is empty; is nothing there, or was it not drawn?"
        elif len(look.labels) == 1:
            text = f"the mask {name} has the value {next(iter(look.labels))} everywhere; is it the right file?"
            yield "warning", "mask", text


def absent(path: Path) -> str | None:
    """Say why there is nothing to read at a path."""
    if not path.exists():
        return "does not exist; correct the path."
    if path.is_file() and path.stat().st_size == 0:
        return "is an empty file; copy it again from its source."
    if path.is_dir() and not any(path.iterdir()):
        return "is an empty folder; copy it again from its source."
    return None


def total_size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    return sum(file.stat().st_size for file in _files(path))


def quick_digest(paths: Sequence[str]) -> bytes:
    """Give the SHA-256 of the first and last 64 KiB of the first and last file: differs for most files that differ."""
    files = [file for path in paths for file in _files(Path(path))]
    digest = hashlib.sha256()
    for file in (files[0], files[-1]) if files else ():
        with file.open("rb") as handle:
            digest.update(handle.read(ENDS))
            handle.seek(max(0, file.stat().st_size - ENDS))
            digest.update(handle.read(ENDS))
    return digest.digest()


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _signs(volume: Volume) -> bytes | None:
    """The signs by which a picture is compared with others; of volumes there are none."""
    if volume.shape[2] != 1 or min(volume.shape[:2]) < 2:
        return None
    pixels: NDArray[np.generic] = volume.array[:, :, 0]
    return array_signs(pixels).tobytes()


def _grid_problems(first: Volume, other: Volume) -> Iterator[tuple[Level, str, str]]:
    if first.source.format == other.source.format == "image":  # pictures have no place that could differ
        if first.shape != other.shape:
            sizes = " and ".join(f"{one.shape[0]} x {one.shape[1]}" for one in (other, first))
            names = f"{other.source.name} and {first.source.name}"
            yield "error", "geometry", f"{names} have {sizes} pixels; they must be the same."
        return
    try:
        require_same_grid(first, other)
    except DataError as error:
        yield "error", "geometry", str(error)
