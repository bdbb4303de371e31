"""Which part of an image has something in it: found once, on a coarse grid, from the image alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from medresnet3d.inferers.windows import Index

#: voxels of the coarse grid's cells along each axis
CELL = 4
#: a value that at least this share of the image's border has is the background
BORDER_SHARE = 0.25
#: with noise as background, at least this share of the border must be darker than the threshold
DARK_SHARE = 0.7
#: planes of the image that are looked at at once, so that little memory is needed
PLANES = 32


@dataclass(frozen=True)
class Foreground:
    """The cells of a coarse grid in which there is something.

    Attributes:
        cells: whether there is something in each cell, bool, one axis for each spatial axis.
        image_size: voxels of the image along each spatial axis.
    """

    cells: NDArray[np.bool_]
    image_size: Index

    def box(self, margin: int = 0) -> tuple[tuple[int, int], ...] | None:
        """Return first voxel and the one after the last along each axis of what holds everything, and a margin.

        ``None`` if there is nothing anywhere.
        """
        found = ndimage.find_objects(self.cells.astype(np.uint8))
        if not found:
            return None
        return tuple(
            (max(part.start * CELL - margin, 0), min(part.stop * CELL + margin, size))
            for part, size in zip(found[0], self.image_size, strict=True)
        )

    def holds(self, box: Sequence[slice]) -> bool:
        """Return whether there may be something in a box of voxels (parts outside the image count as empty)."""
        cut = []
        for part, size in zip(box, self.image_size, strict=True):
            start, stop = max(part.start, 0), min(part.stop, size)
            cut.append(slice(start // CELL, -(-stop // CELL)))
        return bool(self.cells[tuple(cut)].any())


def find_foreground(image: torch.Tensor, background: float | None = None) -> Foreground | None:
    """Find where an image has something in it.

    A voxel is empty if it has the background value in every channel. Without a given value, each channel's is the most
    common value at the image's border (air after clipping, zero after skull stripping). Where the border has no common
    value but is dark noise, the body is what Otsu's threshold (IEEE Trans. SMC 9, 62, 1979) separates from it, filled,
    widened by a cell.

    Args:
        image: (B, C, ...); something in any image of the batch counts.
        background: value of empty voxels.

    Returns:
        the foreground; ``None`` where no background can be told.
    """
    cells: NDArray[np.bool_] | None = None
    for case in image:
        for channel in case:
            found = _channel_cells(channel, background)
            if found is None:
                return None
            cells = found if cells is None else cells | found
    assert cells is not None  # an image has at least one channel
    return Foreground(cells, tuple(image.shape[2:]))


def _channel_cells(channel: torch.Tensor, background: float | None) -> NDArray[np.bool_] | None:
    border = _border(channel)
    if background is None:
        values, counts = border.unique(return_counts=True)
        if counts.max() < BORDER_SHARE * len(border):
            return _body_cells(channel, border)
        background = values[counts.argmax()].item()
    size = -(-channel.shape[0] // CELL)
    cells = np.zeros((size, *(-(-length // CELL) for length in channel.shape[1:])), bool)
    for at in range(0, channel.shape[0], PLANES):
        part = _any_in_cells(channel[at : at + PLANES] != background)
        cells[at // CELL : at // CELL + part.shape[0]] = part.cpu().numpy()
    return cells


def _any_in_cells(mask: torch.Tensor) -> torch.Tensor:
    """Reduce each cell of a mask to whether any of its voxels is set."""
    for axis in reversed(range(mask.dim())):
        missing = -mask.shape[axis] % CELL
        if missing:
            filler = mask.new_zeros([missing if n == axis else length for n, length in enumerate(mask.shape)])
            mask = torch.cat([mask, filler], axis)
        mask = mask.unflatten(axis, (-1, CELL)).any(axis + 1)
    return mask


def _border(channel: torch.Tensor) -> torch.Tensor:
    """Return the voxels of the image's faces, thinned out to at most some 10^5."""
    faces = [channel.select(axis, at).reshape(-1) for axis in range(channel.dim()) for at in (0, -1)]
    voxels = torch.cat(faces)
    return voxels[:: max(len(voxels) // 100_000, 1)]


def _body_cells(channel: torch.Tensor, border: torch.Tensor) -> NDArray[np.bool_] | None:
    """Find the body in front of dark noise, from every fourth voxel."""
    from skimage.filters import threshold_otsu

    coarse = channel[(slice(None, None, CELL),) * channel.dim()].float().cpu().numpy()
    if not np.isfinite(coarse).all() or coarse.min() == coarse.max():
        return None
    threshold = threshold_otsu(coarse)
    if (border.float() <= threshold).float().mean() < DARK_SHARE:
        return None
    body = ndimage.binary_closing(np.pad(coarse > threshold, 1), iterations=1)
    for axis in range(body.ndim if body.ndim > 2 else 0):
        body |= np.stack([ndimage.binary_fill_holes(plane) for plane in np.moveaxis(body, axis, 0)], axis)
    body = ndimage.binary_dilation(ndimage.binary_fill_holes(body))
    return body[(slice(1, -1),) * body.ndim]


def widen_for_free(
    box: Sequence[tuple[int, int]], image_size: Sequence[int], roi: Sequence[int], steps: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Widen a box, inside the image, to what the same number of windows covers; at least to one window.

    Args:
        box: first voxel and the one after the last along each axis.
        image_size: voxels of the image along each axis.
        roi: voxels of a window along each axis.
        steps: voxels from a window to the next along each axis.
    """
    widened = []
    for (start, stop), size, length, step in zip(box, image_size, roi, steps, strict=True):
        windows = max(-(-(stop - start - length) // step), 0) + 1
        free = min(length + (windows - 1) * step, size)
        first = min(max(start - (free - (stop - start)) // 2, 0), size - free)
        widened.append((first, first + free))
    return tuple(widened)


def volume(box: Sequence[tuple[int, int]]) -> int:
    """Return the number of voxels of a box."""
    return prod(stop - start for start, stop in box)
