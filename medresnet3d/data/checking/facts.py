"""What is to be known of one image or label map: size, place, type, and how its values are spread."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medresnet3d.data.checking.hounsfield import judge_hounsfield
from medresnet3d.io import Volume

SAMPLE = 1_000_000
"""Values are judged by about this many, on a regular grid; smallest and largest are those of all."""
CHUNK = 1 << 20
MOST_LABELS = 1000
"""A label map with more different values than these is none."""
PERCENTILES = {"p005": 0.5, "p05": 5.0, "p25": 25.0, "p50": 50.0, "p75": 75.0, "p95": 95.0, "p995": 99.5}
"""The percentiles by the name of their column."""


@dataclass(frozen=True)
class ImageFacts:
    """What is known of one image.

    Args:
        modality: as the file says it, where it does.
        format: as in :class:`medresnet3d.io.Source`.
        dtype: of the values.
        orientation: such as ``"RAS"``; ``None`` for pictures.
        hounsfield: of CT whose voxels were read, a kind of :mod:`medresnet3d.data.checking.hounsfield`.
        dims: 2 for one slice, 3 otherwise.
        components: 3 for colour, else 1.
        size: voxels along i, j and k.
        spacing: of voxels, mm; ``None`` for pictures.
        values: smallest and largest value, the percentiles, mean and standard deviation, where voxels were read.
    """

    modality: str | None
    format: str
    dtype: str
    orientation: str | None
    hounsfield: str | None
    dims: int
    components: int
    size: tuple[int, int, int]
    spacing: tuple[float, float, float] | None
    values: dict[str, float] | None

    def row(self) -> dict[str, object]:
        """Give the facts by column."""
        spacing = self.spacing or (None, None, None)
        return {
            **{name: getattr(self, name) for name in ("modality", "format", "dtype", "orientation", "hounsfield")},
            "dims": self.dims,
            "components": self.components,
            **dict(zip("ijk", self.size, strict=True)),
            **{f"spacing_{axis}": value for axis, value in zip("ijk", spacing, strict=True)},
            **(self.values or {}),
        }


def image_facts(volume: Volume, *, ct: bool, deep: bool) -> ImageFacts:
    """Describe an image.

    Args:
        volume: as it was read; only its header is looked at unless ``deep``.
        ct: whether its values should be Hounsfield units.
        deep: also describe its values.
    """
    picture = volume.source.format == "image"
    sample = _sample(volume.array) if deep else None
    low, high = (float(volume.array.min()), float(volume.array.max())) if deep else (math.nan, math.nan)
    return ImageFacts(
        modality=volume.modality,
        format=volume.source.format,
        dtype=volume.array.dtype.name,
        orientation=None if picture else "".join(nib.orientations.aff2axcodes(volume.affine)),
        hounsfield=judge_hounsfield(sample, low, high) if ct and sample is not None else None,
        dims=2 if volume.shape[2] == 1 else 3,
        components=volume.channels,
        size=volume.shape,
        spacing=None if picture else volume.spacing,
        values=None if sample is None else _spread(sample, low, high),
    )


def voxel_digest(volumes: list[Volume]) -> bytes:
    """Give the SHA-256 of shapes, types and voxels, whatever file they come from."""
    digest = hashlib.sha256()
    for volume in volumes:
        digest.update(repr(volume.array.shape).encode())
        digest.update(np.ascontiguousarray(volume.array.T).data)  # readers make i fastest, so this copies nothing
    return digest.digest()


def label_counts(array: NDArray[np.generic]) -> dict[float, int]:
    """Count the voxels of each value of a label map; stops when there are more than :data:`MOST_LABELS` values."""
    counts: Counter[float] = Counter()
    for chunk in _chunks(array):
        values, numbers = np.unique(chunk, return_counts=True)
        counts.update(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
        if len(counts) > MOST_LABELS:
            break
    return dict(sorted(counts.items()))


def _chunks(array: NDArray[np.generic]) -> Iterator[NDArray[np.generic]]:
    flat = array.ravel(order="K")
    for start in range(0, flat.size, CHUNK):
        yield flat[start : start + CHUNK]


def _sample(array: NDArray[np.generic]) -> NDArray[np.float32]:
    """About :data:`SAMPLE` values on a regular grid, so that every part of the image has its share."""
    step = max(1, math.ceil((array.size / SAMPLE) ** (1 / 3)))
    steps = tuple(slice(None, None, min(step, max(1, size // 8))) for size in array.shape[:3])
    return np.asarray(array[steps], dtype=np.float32).ravel()


def _spread(sample: NDArray[np.float32], low: float, high: float) -> dict[str, float]:
    points = np.percentile(sample, list(PERCENTILES.values()))
    percentiles = dict(zip(PERCENTILES, map(float, points), strict=True))
    mean, std = float(sample.mean(dtype=np.float64)), float(sample.std(dtype=np.float64))
    return {"low": low, **percentiles, "high": high, "mean": mean, "std": std}
