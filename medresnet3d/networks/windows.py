"""Equal windows spread over an image: the regions of a brain, the patches of a region."""

from __future__ import annotations

import torch
from torch import Tensor


def window_starts(size: int, window: int, count: int) -> list[int]:
    """First voxels of ``count`` windows along an axis, evenly spread from its one end to the other.

    Args:
        size: voxels of the axis.
        window: voxels of a window, at most ``size``.
        count: number of windows; a single one lies in the middle.

    >>> window_starts(42, 21, 3)
    [0, 10, 21]
    """
    if count == 1:
        return [(size - window) // 2]
    return [(size - window) * index // (count - 1) for index in range(count)]


def windows(image: Tensor, edges: list[int], count: int) -> list[Tensor]:
    """All windows of an image, as views of it.

    Args:
        image: (B, C, ...).
        edges: voxels of a window along each spatial axis.
        count: windows along each spatial axis.

    Returns:
        ``count`` to the power of the dimensions tensors (B, C, *edges); the last axis changes fastest.
    """
    parts = [image]
    for axis, edge in enumerate(edges):
        smaller: list[Tensor] = []
        for part in parts:
            for start in window_starts(part.shape[axis + 2], edge, count):
                smaller.append(torch.narrow(part, axis + 2, start, edge))
        parts = smaller
    return parts
