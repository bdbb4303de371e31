"""Slices at varying distances, or sheared against their normal, taken to a regular upright grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medresnet3d.errors import GeometryError

GRID_SILENT = 0.02
GRID_TOLD = 0.1
"""Deviations from the regular grid as a fraction of the slice distance."""
MOST_SLICES = 2
"""A grid has at most this many times the slices that there are, as dcm2niix's does."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular grid for slices along their normal.

    Args:
        spacing: distance between its slices in millimetres.
        count: number of its slices.
        index: where the given slices lie, in slices of the grid from its first; increasing, from 0 to ``count - 1``.
        regular: whether the given slices are those of the grid.
    """

    spacing: float
    count: int
    index: NDArray[np.float64]
    regular: bool


def regular_grid(
    along: NDArray[np.float64], start: float, places: Sequence[str], name: str, *, strict: bool, warnings: list[str]
) -> Grid:
    """Give the regular grid that slices lie on, or that they have to be interpolated on.

    Args:
        along: distances from the first slice along the normal in millimetres, strictly increasing; two or more.
        start: place of the first slice along the normal, for messages.
        places: what to call the slices in messages.
        name: of the series, for messages.
        strict: refuse varying distances and missing slices.
        warnings: gets a sentence on what was assumed.

    Raises:
        GeometryError: with ``strict``, naming the gaps.
    """
    mean = along[-1] / (len(along) - 1)
    index = np.arange(len(along), dtype=np.float64)
    error = float(np.abs(along - mean * index).max()) / mean
    distances = np.diff(along)
    if error <= GRID_TOLD:
        if error > GRID_SILENT:
            warnings.append(
                f"The distances between slices vary from {distances.min():.3f} to {distances.max():.3f} mm; "
                f"a regular {mean:.3f} mm was assumed."
            )
        return Grid(mean, len(along), index, regular=True)
    missing = _missing(along, start, places)
    told = missing or (f"the distance between slices varies from {distances.min():.4g} to {distances.max():.4g} mm")
    if strict:
        advice = "copy the complete series" if missing else "load without strict to have them interpolated"
        raise GeometryError(f"{name}: {told}; {advice}.")
    grid = _covering(along, whole=bool(missing))
    warnings.append(
        f"{told[0].upper()}{told[1:]}; the series was interpolated to a regular {grid.spacing:.4g} mm, "
        f"{grid.count} slices from {len(along)}."
    )
    return grid


def _covering(along: NDArray[np.float64], *, whole: bool) -> Grid:
    """Give the grid from the first slice to the last that is about as fine as the smallest distance.

    Where distances are whole multiples of one, every given slice is one of the grid. Otherwise the rule is that of
    dcm2niix: as many slices as the smallest distance asks for, at most twice as many as there are.
    """
    distances = np.diff(along)
    if whole:
        steps = np.rint(distances / np.median(distances))
        index = np.concatenate([[0.0], np.cumsum(steps)])
        if index[-1] + 1 <= MOST_SLICES * len(along):
            count = int(index[-1]) + 1
            return Grid(along[-1] / (count - 1), count, index, regular=False)
    count = math.ceil(along[-1] / distances.min() - 1e-3) + 1
    count = min(count, MOST_SLICES * len(along))
    spacing = along[-1] / (count - 1)
    return Grid(spacing, count, along / spacing, regular=False)


def _missing(along: NDArray[np.float64], start: float, places: Sequence[str]) -> str:
    """Say which slices are missing, if distances are multiples of the usual one; else an empty text."""
    distances = np.diff(along)
    usual = float(np.median(distances))
    multiple = distances / usual
    whole = np.abs(multiple - np.round(multiple)) <= GRID_TOLD
    gaps = np.flatnonzero(np.round(multiple) >= 2)
    if not gaps.size or not whole.all() or gaps.size >= len(distances) / 2:
        return ""
    missing = int(np.round(multiple[gaps]).sum()) - gaps.size
    where = "; ".join(
        f"between {start + along[gap]:.2f} and {start + along[gap + 1]:.2f} mm along the slice normal "
        f"({places[gap]} and {places[gap + 1]})"
        for gap in gaps[:5]
    )
    number = "1 slice is" if missing == 1 else f"{missing} slices are"
    return f"{number} missing: {where}, where slices lie {usual:.4g} mm apart"


@dataclass(frozen=True, eq=False)
class Regrid:
    """How slices become a volume on another grid: each is moved in its plane, then they are interpolated between.

    Args:
        shape: (columns, rows, slices) of the result.
        index: (n,) where each given slice lies along the slices of the result.
        shift: (n, 2) columns and rows by which the first pixel of each given slice lies inside the result.
    """

    shape: tuple[int, int, int]
    index: NDArray[np.float64]
    shift: NDArray[np.float64]

    def apply(self, array: NDArray[Any], padding: float | None = None) -> NDArray[Any]:
        """Resample slices linearly.

        Args:
            array: (columns, rows, n).
            padding: value of pixels outside of the scanned region; such pixels are never mixed with others, and what
                no slice covers gets this value. By default the latter gets the smallest value of ``array``.

        Returns:
            (columns, rows, slices) of the same type, columns fastest in memory.
        """
        fill = float(array.min()) if padding is None else padding
        out = np.empty(self.shape[::-1], array.dtype)
        moved: dict[int, NDArray[np.float32]] = {}
        for k in range(self.shape[2]):
            high = min(int(np.searchsorted(self.index, k - 1e-6)), len(self.index) - 1)
            low = max(high - 1, 0)
            for one in (low, high):
                if one not in moved:
                    moved[one] = self._moved(array[:, :, one].T, self.shift[one], fill, padding)
            weight = 1.0 if high == low else (k - self.index[low]) / (self.index[high] - self.index[low])
            plane = _mixed(moved[low], moved[high], float(np.clip(weight, 0, 1)), padding)
            out[k] = np.rint(plane) if array.dtype.kind in "iu" else plane
            moved = {one: moved[one] for one in (low, high)}
        return out.T

    def _moved(
        self, plane: NDArray[Any], shift: NDArray[np.float64], fill: float, padding: float | None
    ) -> NDArray[np.float32]:
        columns, rows, _ = self.shape
        part = plane.astype(np.float32 if plane.dtype.itemsize < 4 or plane.dtype.kind == "f" else np.float64)
        starts = []
        for axis, along in enumerate(shift[::-1]):
            whole = math.floor(along + 1e-6)
            fraction = max(float(along - whole), 0.0)
            if fraction > 1e-6:
                edge = np.pad(part, [(1, 1) if other == axis else (0, 0) for other in (0, 1)], mode="edge")
                here, before = np.delete(edge, 0, axis), np.delete(edge, -1, axis)
                part = _mixed(here, before, fraction, padding)
            starts.append(whole)
        out = np.full((rows, columns), fill, part.dtype)
        top, left = starts
        part = part[: rows - top, : columns - left]
        out[top : top + part.shape[0], left : left + part.shape[1]] = part
        return out


def _mixed(first: NDArray[Any], second: NDArray[Any], weight: float, padding: float | None) -> NDArray[Any]:
    if weight in (0.0, 1.0):
        return second if weight else first
    mixed = first * (1 - weight) + second * weight
    if padding is not None:
        outside = (first == padding) | (second == padding)
        mixed[outside] = (second if weight >= 0.5 else first)[outside]
    return mixed
