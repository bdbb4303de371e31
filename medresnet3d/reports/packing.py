"""A scan made small for a page: a coarser grid where needed, 256 grey steps, and a compressed text of the voxels."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CODES = 256
CT_KNOTS = (-1024.0, -160.0, 0.0, 80.0, 240.0, 1500.0, 3071.0)
"""Hounsfield units between which the grey steps of CT are evenly spread."""
_CT_CODES = (0.0, 72.0, 112.0, 162.0, 202.0, 244.0, 255.0)
_MARGIN_BELOW, _MARGIN_ABOVE = 0.25, 0.5
_OUTER_CODES = 12.0


@dataclass(frozen=True)
class GreySteps:
    """How values become 256 codes: evenly between knots, finer where the eye looks.

    Attributes:
        knots: values in rising order.
        codes: their places on the scale from 0 to 255.
    """

    knots: tuple[float, ...]
    codes: tuple[float, ...]

    @classmethod
    def for_ct(cls) -> GreySteps:
        """Steps of 1.6 HU in the brain window, 4 HU in soft tissue, 12 HU in the lung and 30 HU in bone."""
        return cls(CT_KNOTS, _CT_CODES)

    @classmethod
    def for_values(cls, lowest: float, highest: float, window: tuple[float, float], whole: bool) -> GreySteps:
        """Give most codes to the window and its surroundings, the rest to what lies outside.

        Args:
            lowest: smallest value of the scan.
            highest: largest value of the scan.
            window: lowest and highest value that is shown at first.
            whole: whether the values are whole numbers; up to 256 of them are kept exactly.
        """
        if whole and highest - lowest < CODES:
            return cls((lowest, lowest + CODES - 1), (0.0, CODES - 1.0))
        highest = max(highest, lowest + 1e-6 * max(1.0, abs(lowest)))
        span = window[1] - window[0]
        start = max(lowest, window[0] - _MARGIN_BELOW * span)
        stop = min(highest, window[1] + _MARGIN_ABOVE * span)
        knots, codes = [lowest], [0.0]
        for value, code in ((start, _OUTER_CODES), (stop, CODES - 1 - _OUTER_CODES)):
            if knots[-1] < value < highest:
                knots.append(value)
                codes.append(code)
        return cls((*knots, highest), (*codes, CODES - 1.0))

    def encode(self, values: NDArray[np.generic]) -> NDArray[np.uint8]:
        """Give the codes of values; what is not finite becomes code 0."""
        scaled = np.interp(np.nan_to_num(values, nan=-np.inf), self.knots, self.codes)
        return np.rint(scaled).astype(np.uint8)

    def values(self) -> list[float]:
        """Give the value that each of the 256 codes stands for."""
        return [float(f"{value:.5g}") for value in np.interp(np.arange(CODES), self.codes, self.knots)]


@dataclass(frozen=True)
class Grid:
    """A grid over the same box as the scan's own, as coarse or coarser.

    Attributes:
        source: number of voxels of the scan along i, j and k.
        shape: number of voxels of this grid.
    """

    source: tuple[int, int, int]
    shape: tuple[int, int, int]

    @classmethod
    def within(cls, source: tuple[int, int, int], spacing: Sequence[float], most: float) -> Grid:
        """Choose the finest grid of at most ``most`` voxels; the finest axes are coarsened first.

        Args:
            source: shape of the scan.
            spacing: voxel edge lengths of the scan, mm.
            most: largest number of voxels.
        """
        edges = np.asarray(spacing, dtype=np.float64)
        low, high = float(edges.min()), float((edges * source).max())
        if np.prod(np.asarray(source, dtype=np.float64)) <= most:
            return cls(source, source)
        for _ in range(40):
            middle = (low * high) ** 0.5
            low, high = (low, middle) if np.prod(_coarse(source, edges, middle)) <= most else (middle, high)
        i, j, k = (int(n) for n in _coarse(source, edges, high))
        return cls(source, (i, j, k))

    @property
    def size(self) -> int:
        """Number of voxels."""
        return int(np.prod(self.shape))

    @property
    def reduced(self) -> bool:
        """Whether the grid is coarser than the scan's own."""
        return self.shape != self.source

    def affine(self, affine: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give this grid's affine from the scan's own (4 x 4, to mm)."""
        steps = np.asarray(self.source, dtype=np.float64) / self.shape
        own = np.diag([*steps, 1.0])
        own[:3, 3] = (steps - 1) / 2
        return affine @ own

    def image(self, array: NDArray[np.generic], chosen: Sequence[int] | None = None) -> Iterator[NDArray[np.float32]]:
        """Give slices (j, i) of an image on this grid, each voxel the mean of what it covers.

        Args:
            array: values (i, j, k) of the scan.
            chosen: which slices along k; all by default.
        """
        i, j, k = (_shares(n, own) for n, own in zip(self.source, self.shape, strict=True))
        flat = self.shape[:2] == self.source[:2]
        kept: dict[int, NDArray[np.float32]] = {}
        for index in range(self.shape[2]) if chosen is None else chosen:
            covered = np.flatnonzero(k[index]).tolist()
            fresh = {one: np.asarray(array[:, :, one].T, dtype=np.float32) for one in covered if one not in kept}
            kept = {one: kept[one] for one in covered if one in kept} | {
                one: plane if flat else np.asarray(j @ plane @ i.T, dtype=np.float32) for one, plane in fresh.items()
            }
            yield np.tensordot(k[index, covered], np.stack([kept[one] for one in covered]), axes=1)

    def labels(self, array: NDArray[np.generic]) -> Iterator[NDArray[np.generic]]:
        """Give slices (j, i) of a label map on this grid, each voxel the label at its centre."""
        i, j, k = (
            ((np.arange(own) + 0.5) * n / own).astype(int) for own, n in zip(self.shape, self.source, strict=True)
        )
        for index in k:
            yield array[:, :, index][np.ix_(i, j)].T


def _coarse(source: Sequence[int], edges: NDArray[np.float64], edge: float) -> NDArray[np.float64]:
    """Count the voxels along each axis when none is shorter than ``edge`` mm."""
    counts = np.ceil(np.asarray(source) * edges / np.maximum(edges, edge) - 1e-9)
    return np.maximum(counts, 1.0)


def _shares(n: int, own: int) -> NDArray[np.float32]:
    """Give the share of each of ``n`` voxels in each of ``own`` that lie over the same length, (own, n)."""
    edges = np.arange(own + 1)[:, None] * (n / own)
    covered = np.clip(edges - np.arange(n), 0.0, 1.0)
    shares = np.diff(covered, axis=0)
    shares[shares < 1e-9] = 0.0
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), dtype=np.float32)


def pack(slices: Iterable[NDArray[np.uint8]], smooth: bool) -> bytes:
    """Compress slices (j, i) of codes with zlib, i fastest.

    Args:
        slices: the codes, one slice along k after the other.
        smooth: for images: store what each voxel differs from the mean of its left and upper neighbour, modulo 256,
            which compresses better; label maps are stored as they are.
    """
    strategy = zlib.Z_RLE if smooth else zlib.Z_DEFAULT_STRATEGY
    packer = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS, 9, strategy)
    parts = [packer.compress(np.ascontiguousarray(_residual(one) if smooth else one).tobytes()) for one in slices]
    return b"".join([*parts, packer.flush()])


def _residual(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Subtract the mean of the left and the upper neighbour; outside the slice neighbours count as 0."""
    wide = np.pad(codes, ((1, 0), (1, 0))).astype(np.uint16)
    return (codes - ((wide[1:, :-1] + wide[:-1, 1:]) >> 1).astype(np.uint8)).astype(np.uint8)
