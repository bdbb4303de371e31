"""Candidates of a detector on tensors: peaks of a map, cubes of several scales around them, and scores painted back.

Every shape depends on the arguments alone and none on voxel values, so that these steps are traced and exported with
the network that they belong to.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def find_peaks(score: Tensor, count: int, distance: int) -> tuple[Tensor, Tensor]:
    """Find the largest local maxima of a map.

    A voxel is one where none nearer than ``distance`` along any axis is larger; of equal neighbours all are.

    Args:
        score: (B, ...) of two or three dimensions in space, any finite numbers.
        count: how many to give for each map.
        distance: in voxels.

    Returns:
        their voxels, int64, (B, K, dimensions), and their values, (B, K), from the largest; minus infinity where a map
        has fewer peaks than K, which is ``count`` or the map's size where that is smaller.
    """
    largest = _largest_around(score.unsqueeze(1), distance).squeeze(1)
    peaks = torch.where(score == largest, score, -torch.inf).flatten(1)
    values, flat = peaks.topk(min(count, peaks.shape[1]), dim=1)
    places: list[Tensor] = []
    for size in reversed(score.shape[1:]):
        places.insert(0, flat % size)
        flat = torch.div(flat, size, rounding_mode="floor")
    return torch.stack(places, -1), values


def sample_cubes(image: Tensor, centres: Tensor, edges: Sequence[float], size: int) -> Tensor:
    """Sample cubes of several edges around points, all with as many voxels, by linear interpolation.

    Args:
        image: (B, C, ...) of two or three dimensions in space; beyond it everything is 0.
        centres: (B, K, dimensions) in voxels, the middle of each cube.
        edges: of the cubes, in voxels of the image.
        size: voxels along each edge of a cube.

    Returns:
        (B, K, C * len(edges), size, ...), all channels of the first edge first.
    """
    batch, count, dims = centres.shape
    steps = (torch.arange(size, device=image.device, dtype=image.dtype) + 0.5) / size - 0.5
    offsets = torch.stack(torch.meshgrid(*[steps] * dims, indexing="ij"), -1).reshape(-1, dims)
    to_grid = 2 / (_sizes(image.shape[2:], image.device) - 1).clamp(min=1).to(image.dtype)
    cubes = []
    for edge in edges:
        places = centres.to(image.dtype).unsqueeze(2) + edge * offsets
        grid = (places * to_grid - 1).flip(-1).reshape(batch, count * size, *[size] * (dims - 1), dims)
        sampled = functional.grid_sample(image, grid.to(image.dtype), padding_mode="zeros", align_corners=True)
        cubes.append(sampled.unflatten(2, (count, size)).movedim(2, 1))
    return torch.cat(cubes, dim=2)


def paint_candidates(mask: Tensor, centres: Tensor, values: Tensor, reach: int) -> Tensor:
    """Fill the part of a mask that each candidate lies in with the candidate's value.

    A part is what is connected with the candidate's voxel or its direct neighbours, through voxels that touch at least
    at a corner, in at most ``reach`` steps. These neighbours are filled even where the mask is empty. Where several
    candidates reach one voxel, the largest value counts.

    Args:
        mask: bool, (B, ...) of two or three dimensions in space.
        centres: int64, (B, K, dimensions), voxels.
        values: (B, K), not negative.
        reach: in voxels.

    Returns:
        (B, ...), the values; 0 elsewhere.
    """
    batch, count, dims = centres.shape
    edge = 2 * reach + 1
    steps = torch.arange(-reach, reach + 1, device=mask.device)
    offsets = torch.stack(torch.meshgrid(*[steps] * dims, indexing="ij"), -1).reshape(-1, dims)
    places = centres.unsqueeze(2) + offsets
    shape = _sizes(mask.shape[1:], mask.device)
    inside = ((places >= 0) & (places < shape)).all(-1)
    strides = _strides(shape)
    flat = ((places.clamp(min=0).minimum(shape - 1)) * strides).sum(-1).flatten(1)
    core = (offsets.abs().sum(-1) <= 1).to(values.dtype)
    allowed = (mask.flatten(1).gather(1, flat).unflatten(1, (count, -1)) & inside).to(values.dtype)
    part = _grown(core.expand(batch, count, -1), torch.maximum(allowed, core), [edge] * dims, reach)
    painted = torch.where(inside & (part > 0), values.unsqueeze(-1), 0.0).flatten(1)
    result = torch.zeros_like(mask.flatten(1), dtype=values.dtype)
    return result.scatter_reduce(1, flat, painted, "amax").reshape(mask.shape)


def _sizes(shape: Sequence[int], device: torch.device) -> Tensor:
    """A shape as a tensor, int64, which stays a part of a traced network: this then takes images of any size."""
    return torch.stack([torch.as_tensor(size, dtype=torch.int64, device=device) for size in shape])


def _strides(shape: Tensor) -> Tensor:
    """How far the next place along each axis is in a flat, contiguous tensor."""
    return torch.cat([shape[1:].flip(0).cumprod(0).flip(0), torch.ones_like(shape[:1])])


def _grown(seed: Tensor, allowed: Tensor, edges: Sequence[int], steps: int) -> Tensor:
    """Let seeds (B, K, voxels) grow into what is allowed, by one voxel a step."""
    batch, count = seed.shape[:2]
    part, allowed = (each.reshape(batch * count, 1, *edges) for each in (seed, allowed))
    for _ in range(steps):
        part = _largest_around(part, 1) * allowed
    return part.reshape(batch, count, -1)


def _largest_around(x: Tensor, distance: int) -> Tensor:
    """The maximum of (B, 1, ...) over the box around each voxel, one axis after another."""
    pool = functional.max_pool2d if x.ndim == 4 else functional.max_pool3d
    for axis in range(2, x.ndim):
        window = [2 * distance + 1 if other == axis else 1 for other in range(2, x.ndim)]
        x = pool(x, window, 1, [edge // 2 for edge in window])
    return x
