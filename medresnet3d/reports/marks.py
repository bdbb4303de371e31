"""Rings around places of a volume: how large they are and which slices show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medresnet3d.reports.blocks import LegendEntry, Mark, Ring

_FACTOR, _GAP_MM = 1.2, 2.0


@dataclass(frozen=True)
class MarkedScan:
    """A scan with marks.

    Attributes:
        pixels: values (i, j, k), or colour (i, j, k, 3).
        marks: places in it, the most important first.
        affine: 4 x 4 affine to RAS+ mm; None where the marks are in voxels.
    """

    pixels: NDArray[Any]
    marks: Sequence[Mark]
    affine: NDArray[np.float64] | None = None


def ring_radius(mark: Mark) -> float:
    """Give the radius of a mark's ring in mm: a little outside of what it is around."""
    return _FACTOR * mark.radius_mm + _GAP_MM


def is_cut(mark: Mark, distance_mm: float, thickness_mm: float) -> bool:
    """Say whether a slice shows a mark.

    Args:
        mark: the mark.
        distance_mm: from its centre to the middle of the slice.
        thickness_mm: of the slice.
    """
    return abs(distance_mm) <= max(mark.radius_mm, thickness_mm / 2)


def mark_legend(marks: Sequence[Mark]) -> list[LegendEntry]:
    """List the kinds of marks with their colours."""
    return [LegendEntry(kind, color) for kind, color in dict.fromkeys((mark.kind, mark.color) for mark in marks)]


def mark_columns(marks: Sequence[Mark]) -> list[str]:
    """Give the names of all facts that marks have, in order."""
    return list(dict.fromkeys(name for mark in marks for name in mark.facts))


class Cut(Protocol):
    """A plane through a volume."""

    @property
    def axis(self) -> int:
        """Axis of the volume across the plane."""

    @property
    def sides(self) -> tuple[int, int]:
        """Axes to the right and up."""

    @property
    def index(self) -> int:
        """Number of the slice."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels of the volume."""

    def place(self, voxel: NDArray[np.float64]) -> tuple[float, float]:
        """Give the place of a voxel as fractions from left and top."""


def rings_on(cut: Cut, spacing: Sequence[float], marks: Sequence[tuple[Mark, NDArray[np.float64]]]) -> list[Ring]:
    """Give the rings that a plane shows.

    Args:
        cut: the plane.
        spacing: voxel edge lengths, mm.
        marks: with their places in voxels.
    """
    width = cut.shape[cut.sides[0]] * spacing[cut.sides[0]]
    thickness = spacing[cut.axis]
    return [
        Ring(cut.place(voxel), 2 * ring_radius(mark) / width, mark.color, mark.name)
        for mark, voxel in marks
        if is_cut(mark, (float(voxel[cut.axis]) - cut.index) * thickness, thickness)
    ]
