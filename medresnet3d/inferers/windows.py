"""Where the windows of a sliding-window pass lie, and in which order they are computed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from monai.data.utils import compute_importance_map, dense_patch_slices

from medresnet3d.errors import ConfigError

Index = tuple[int, ...]


@dataclass(frozen=True)
class WindowPlan:
    """A grid of equal windows over an image.

    Attributes:
        image_size: voxels of the image along each spatial axis.
        roi_size: voxels of a window along each spatial axis.
        pad_before: voxels added before the image along each axis where it is smaller than the window.
        starts: first voxel of the windows along each axis, in the padded image, ascending.
        order: the spatial axes from the outermost loop to the innermost. What is kept in memory does not depend on the
            length of the first one.
        paired: whether the last two windows along the outermost axis take turns, as they may overlap by nearly all of
            their size (the last one ends with the image), and a whole layer of that thickness would have to be kept.
    """

    image_size: Index
    roi_size: Index
    pad_before: Index
    starts: tuple[Index, ...]
    order: Index
    paired: bool = False

    @property
    def padded_size(self) -> Index:
        """Voxels of the padded image along each axis."""
        return tuple(max(pair) for pair in zip(self.image_size, self.roi_size, strict=True))

    @property
    def padding(self) -> tuple[tuple[int, int], ...]:
        """Voxels added before and after the image along each axis."""
        sizes = zip(self.image_size, self.padded_size, self.pad_before, strict=True)
        return tuple((before, padded - image - before) for image, padded, before in sizes)

    @property
    def count(self) -> int:
        """Number of windows."""
        return prod(len(starts) for starts in self.starts)

    def indices(self) -> Iterator[Index]:
        """Yield the grid index of each window, in the order in which they are computed."""
        outer, *inner = (range(len(self.starts[axis])) for axis in self.order)
        layers = [(number,) for number in outer]
        if self.paired:
            layers = [*layers[:-2], (*outer[-2:],)]
        for layer in layers:
            for rest in itertools.product(*inner):
                for number in layer:
                    index = (number, *rest)
                    yield tuple(index[self.order.index(axis)] for axis in range(len(self.order)))

    def corner(self, index: Index) -> Index:
        """Return the first voxel, in the padded image, of the window with that grid index."""
        return tuple(starts[i] for starts, i in zip(self.starts, index, strict=True))

    def slices(self, index: Index) -> tuple[slice, ...]:
        """Return the voxels, in the padded image, of the window with that grid index."""
        corner = zip(self.corner(index), self.roi_size, strict=True)
        return tuple(slice(start, start + size) for start, size in corner)


def axis_starts(size: int, roi: int, overlap: float) -> Index:
    """Return the first voxel of each window along an axis, as MONAI lays them out.

    Args:
        size: voxels of the (padded) image along the axis, at least ``roi``.
        roi: voxels of a window.
        overlap: share of a window that the next one covers again, at least 0 and below 1.
    """
    step = roi if roi == size else max(int(roi * (1 - overlap)), 1)
    return tuple(int(window[0].start) for window in dense_patch_slices((size,), (roi,), (step,)))


def per_axis(value: float | Sequence[float], dims: int, name: str) -> tuple[float, ...]:
    """Repeat a number for each axis, or check that there is one for each.

    Raises:
        ConfigError: if there is another number of values.
    """
    values = tuple(value) if isinstance(value, Sequence) else (value,) * dims
    if len(values) != dims:
        raise ConfigError(f"{name} has {len(values)} values but the image has {dims} spatial axes; give one for each.")
    return values


def full_roi(roi_size: int | Sequence[int], image_size: Sequence[int]) -> Index:
    """Return the window size, where a size of ``None`` or below 1 means the whole axis.

    Raises:
        ConfigError: if the number of sizes is not that of the image's axes.
    """
    sizes = per_axis(roi_size, len(image_size), "roi_size")
    return tuple(int(roi) if roi and roi > 0 else size for roi, size in zip(sizes, image_size, strict=True))


def plan_windows(
    image_size: Sequence[int],
    roi_size: int | Sequence[int],
    overlap: float | Sequence[float] = 0.25,
    first_axis: int | None = None,
) -> WindowPlan:
    """Lay the windows over an image, on the grid that MONAI uses.

    Args:
        image_size: voxels along each spatial axis.
        roi_size: voxels of a window; ``None`` or below 1 for the whole axis.
        overlap: share of a window that the next one covers again, for all axes or for each.
        first_axis: the spatial axis of the outermost loop; ``None``: see :func:`streaming_order`.

    Raises:
        ConfigError: if a value does not fit the image's axes or an overlap is not in [0, 1).
    """
    roi = full_roi(roi_size, image_size)
    overlaps = per_axis(overlap, len(image_size), "overlap")
    for share in overlaps:
        if not 0 <= share < 1:
            raise ConfigError(f"overlap is {share}; give a share of the window of at least 0 and below 1.")
    padded = [max(pair) for pair in zip(image_size, roi, strict=True)]
    starts = tuple(axis_starts(*axis) for axis in zip(padded, roi, overlaps, strict=True))
    before = tuple((size - image) // 2 for size, image in zip(padded, image_size, strict=True))
    order, paired = streaming_order(padded, starts, roi, first_axis)
    return WindowPlan(tuple(image_size), roi, before, starts, order, paired)


def streaming_order(
    size: Sequence[int], starts: Sequence[Index], roi: Index, first_axis: int | None = None
) -> tuple[Index, bool]:
    """Order the axes from the outermost loop to the innermost, so that the least has to be kept.

    Args:
        size: voxels of the padded image along each spatial axis.
        starts: first voxels of the windows along each axis.
        roi: voxels of a window along each axis.
        first_axis: the outermost axis, if it is given.

    Returns:
        the order, and whether the last two windows along the first axis take turns.
    """
    axes = sorted(range(len(size)), key=lambda axis: (-size[axis], -axis))
    choices = [
        (order, paired)
        for order in itertools.permutations(axes)
        if first_axis in (None, order[0])
        for paired in ((False, True) if len(starts[order[0]]) > 1 else (False,))
    ]
    return min(choices, key=lambda choice: kept_voxels(size, starts, roi, *choice))


def kept_voxels(size: Sequence[int], starts: Sequence[Index], roi: Index, order: Index, paired: bool) -> float:
    """Reckon the most voxels whose sums are kept at a time: a layer of the overlap's thickness along each axis.

    Args:
        size: voxels of the padded image along each spatial axis.
        starts: first voxels of the windows along each axis.
        roi: voxels of a window along each axis.
        order: the axes from the outermost loop to the innermost.
        paired: whether the last two windows along the first axis take turns.
    """
    first, *inner = order
    along = starts[first][:-1] if paired else starts[first]
    layer = _thickest(along, roi[first]) * prod(size[axis] for axis in inner)

    def beside(length: int) -> float:
        """What is kept along the inner axes where the blocks have that length along the first."""
        kept, done = 0, length
        for depth, axis in enumerate(inner, 1):
            kept += done * _thickest(starts[axis], roi[axis]) * prod(size[other] for other in inner[depth:])
            done *= roi[axis]
        return kept

    kept = layer + beside(roi[first])
    if not paired:
        return kept
    # The layer is used up while the pairs go on; a pair's block is kept until its second window arrives.
    length = roi[first] + starts[first][-1] - starts[first][-2]
    rows = len(starts[inner[0]]) if inner else 1
    return max(kept, layer * (1 - 1 / rows) + beside(length) + length * prod(roi[axis] for axis in inner))


def _thickest(starts: Index, roi: int) -> int:
    return max((before + roi - after for before, after in itertools.pairwise(starts)), default=0)


def importance(
    roi_size: Sequence[int], mode: str, sigma_scale: float | Sequence[float], device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Return MONAI's weights (1, 1, ...) of a window's voxels, float32."""
    return compute_importance_map(tuple(roi_size), mode=mode, sigma_scale=sigma_scale, device=device)[None, None]


def covered_voxels(plan: WindowPlan, indices: Iterable[Index]) -> int:
    """Return how many voxels of the image lie in at least one of the given windows."""
    edges, cells = [], []
    for starts, roi, size, before in zip(plan.starts, plan.roi_size, plan.image_size, plan.pad_before, strict=True):
        inside = [min(max(at - before, 0), size) for start in starts for at in (start, start + roi)]
        edges.append(np.unique(inside))
        cells.append(np.diff(edges[-1]))
    covered = np.zeros([len(lengths) for lengths in cells], bool)
    for index in indices:
        box = []
        for axis, part in enumerate(plan.slices(index)):
            ends = np.clip([part.start - plan.pad_before[axis], part.stop - plan.pad_before[axis]], 0, None)
            box.append(slice(*np.searchsorted(edges[axis], np.minimum(ends, plan.image_size[axis]))))
        covered[tuple(box)] = True
    for lengths in reversed(cells):
        covered = covered @ lengths
    return int(covered)
