"""Round the kernels of convolutions so that the errors of neighbouring weights cancel.

Each weight rounded by itself to bf16 is off by up to 1/512 of its value, and the sum over a kernel by a random amount.
What a convolution reads is smooth: neighbouring voxels are nearly equal, so the error of the sum is what counts. Here
the error of each weight is added to the next one before that is rounded (error diffusion, along a path through the
kernel that visits neighbours), so that the sum is off by no more than the last weight is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import torch

Place = tuple[int, ...]


def round_kernel(weight: torch.Tensor, dtype: torch.dtype, phases: Sequence[int] | None = None) -> torch.Tensor:
    """Round a convolution's weight with error diffusion.

    Args:
        weight: (C, C', ...), fp32, with the kernel's axes last. Weights that are zero stay zero.
        dtype: ``torch.bfloat16`` or ``torch.float16``.
        phases: stride of a transposed convolution: a voxel of the output meets one weight in so many only, and the
            error stays among those; ``None``: a voxel meets all of them.

    Returns:
        The weight in ``dtype``.
    """
    rounded = torch.empty_like(weight, dtype=dtype)
    for places in _paths(tuple(weight.shape[2:]), phases):
        error = torch.zeros(weight.shape[:2], dtype=torch.float64, device=weight.device)
        for place in places:
            index: Any = (..., *place)
            exact = weight[index]
            wanted = exact.double() + error
            value = torch.where(exact == 0, 0, wanted).to(dtype)
            rounded[index] = value
            error = wanted - value.double()
    return rounded


def _paths(sizes: Place, phases: Sequence[int] | None) -> Iterable[list[Place]]:
    """The places of a kernel in an order in which each is beside the last, one path for each phase."""
    steps = phases or [1] * len(sizes)

    def phase(place: Place) -> Place:
        return tuple(index % step for index, step in zip(place, steps, strict=True))

    ordered = sorted(_serpentine(sizes), key=phase)
    for _, places in groupby(ordered, key=phase):
        yield list(places)


def _serpentine(sizes: Place) -> list[Place]:
    """All places, row by row, every other row backwards."""
    path: list[Place] = [()]
    for size in sizes:
        path = [
            (*place, index)
            for number, place in enumerate(path)
            for index in (range(size) if number % 2 == 0 else reversed(range(size)))
        ]
    return path
