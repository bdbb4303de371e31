"""From a cube to planes: intermediate dense projections, and the orthogonal views that are their simplest case.

Paper: Y. Dai et al. (2018), benign and malignant lung nodules by a DenseNet, where an "intermediate dense projection"
captures the third dimension. The sampling, the weights and their width are not known to us: they are this package's.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.transforms.ct import nodule_cube_inference, nodule_cube_training
from medresnet3d.transforms.plane_packing import pack_planes

KINDS = ("gaussian", "mip", "mean", "stack")
AXES = (2, 1, 0)
"""Axial, coronal and sagittal planes of an (i, j, k) cube are cut across k, j and i."""


def projection_offsets(count: int, growth: int = 1) -> list[int]:
    """Offsets of the projected slices from the middle one: dense near it, sparse further out.

    The gap between neighbours grows by ``growth`` from one to the next: 0, 1, 3, 6, 10 and their negatives for 9
    slices and a growth of 1; without growth they are consecutive.

    Args:
        count: number of slices, odd.
        growth: by how many voxels each gap is larger than the one before.

    Raises:
        ConfigError: if the count is even or below 1, or the growth is negative.

    >>> projection_offsets(9)
    [-10, -6, -3, -1, 0, 1, 3, 6, 10]
    """
    if count < 1 or count % 2 == 0 or growth < 0:
        raise ConfigError(f"A projection of {count} slices with growth {growth}: give an odd number, and 0 or more.")
    outward = [number + growth * number * (number - 1) // 2 for number in range(1, count // 2 + 1)]
    return [*(-offset for offset in reversed(outward)), 0, *outward]


def projection_weights(count: int, sigma: float = 2.0) -> torch.Tensor:
    r"""Weights (count,) of the slices: :math:`w_k \propto e^{-k^2 / 2 \sigma^2}`, with k the number from the middle.

    Args:
        count: number of slices, odd.
        sigma: width, in slices.

    Raises:
        ConfigError: if ``sigma`` is not positive.
    """
    if sigma <= 0:
        raise ConfigError(f"sigma is {sigma}; it must be positive.")
    number = torch.arange(count) - count // 2
    weights = torch.exp(-number.square() / (2 * sigma**2))
    return weights / weights.sum()


def intermediate_dense_projection(
    volume: torch.Tensor, axis: int, count: int = 9, kind: str = "gaussian", sigma: float = 2.0, growth: int = 1
) -> torch.Tensor:
    """Combine slices around the middle of a volume into one plane.

    Args:
        volume: (..., i, j, k).
        axis: which of i, j and k (0, 1, 2) the slices are cut across.
        count: number of slices, odd; 1 is the middle slice alone.
        kind: ``gaussian`` (weighted mean), ``mean``, ``mip`` (maximum) or ``stack`` (all of them).
        sigma: width of the Gaussian, in slices.
        growth: see :func:`projection_offsets`.

    Returns:
        the plane, (...) and the two other axes in their order; for ``stack`` the slices come before these.

    Raises:
        ConfigError: if the kind is unknown, a number is impossible, or the slices reach out of the volume.
    """
    if kind not in KINDS:
        raise ConfigError(f"There is no projection {kind!r}; use {', '.join(KINDS)}.")
    offsets = projection_offsets(count, growth)
    length = volume.shape[axis - 3]
    middle = length // 2
    if middle + offsets[0] < 0 or middle + offsets[-1] >= length:
        raise ConfigError(
            f"{count} slices with growth {growth} reach {offsets[-1]} voxels from the middle, out of a volume of "
            f"{length}; take fewer slices or a smaller growth."
        )
    index = torch.tensor([middle + offset for offset in offsets], device=volume.device)
    slices = volume.index_select(axis - 3, index).movedim(axis - 3, -3)
    if kind == "stack":
        return slices
    if kind == "mip":
        return slices.amax(-3)
    if kind == "mean":
        return slices.mean(-3)
    weights = projection_weights(count, sigma).to(slices)
    return torch.tensordot(slices.movedim(-3, -1), weights, dims=1)


class IntermediateDenseProjectiond(MapTransform):
    """Turn a cube into the projections of its three axes, as channels: axial, coronal, sagittal.

    Args:
        keys: cubes (1, n, n, n).
        count: see :func:`intermediate_dense_projection`; 1 gives the three orthogonal middle planes.
        kind: see :func:`intermediate_dense_projection`; ``stack`` gives ``count`` channels for each axis.
        sigma: see :func:`projection_weights`.
        growth: see :func:`projection_offsets`.

    Raises:
        ConfigError: as :func:`intermediate_dense_projection`.
        DataError: if an image is no cube of one channel.
    """

    def __init__(
        self, keys: KeysCollection, count: int = 9, kind: str = "gaussian", sigma: float = 2.0, growth: int = 1
    ) -> None:
        super().__init__(keys)
        if kind not in KINDS:
            raise ConfigError(f"There is no projection {kind!r}; use {', '.join(KINDS)}.")
        self.options: dict[str, Any] = {"count": count, "kind": kind, "sigma": sigma, "growth": growth}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of ``data`` with (3, n, n), or (3 * count, n, n), in place of the cubes."""
        item = dict(data)
        for key in self.key_iterator(item):
            cube = item[key]
            if cube.ndim != 4 or cube.shape[0] != 1 or len(set(cube.shape[1:])) != 1:
                raise DataError(f"a projection needs a cube of one channel, not the shape {tuple(cube.shape)}.")
            plain = cube.as_tensor() if isinstance(cube, MetaTensor) else cube
            planes = [intermediate_dense_projection(plain[0], axis, **self.options) for axis in AXES]
            joined = torch.cat(planes) if self.options["kind"] == "stack" else torch.stack(planes)
            item[key] = pack_planes(joined, cube, self._places(cube.shape[-1]))
        return item

    def _places(self, length: int) -> list[tuple[int, int]]:
        """Where the planes lie: each slice of a stack in its own place, a projection in the middle."""
        stacked = self.options["kind"] == "stack"
        offsets = projection_offsets(self.options["count"], self.options["growth"]) if stacked else [0]
        return [(axis, length // 2 + offset) for axis in AXES for offset in offsets]


def nodule_projection_training(
    count: int = 9, kind: str = "gaussian", sigma: float = 2.0, growth: int = 1, **cubes: Any
) -> Compose:
    """Projections of cubes that :func:`medresnet3d.transforms.ct.nodule_cube_training` cut and varied.

    Args:
        count: see :class:`IntermediateDenseProjectiond`.
        kind: see :class:`IntermediateDenseProjectiond`.
        sigma: see :class:`IntermediateDenseProjectiond`.
        growth: see :class:`IntermediateDenseProjectiond`.
        **cubes: of :func:`medresnet3d.transforms.ct.nodule_cube_training`, but for augmentation in batches: planes
            cannot be varied as cubes are.
    """
    projection = IntermediateDenseProjectiond("image", count, kind, sigma, growth)
    return Compose([nodule_cube_training(**cubes), projection], log_stats=False).flatten()


def nodule_projection_inference(
    count: int = 9, kind: str = "gaussian", sigma: float = 2.0, growth: int = 1, **cubes: Any
) -> Compose:
    """Projections for validation and inference, with no variation.

    Args:
        count: see :class:`IntermediateDenseProjectiond`.
        kind: see :class:`IntermediateDenseProjectiond`.
        sigma: see :class:`IntermediateDenseProjectiond`.
        growth: see :class:`IntermediateDenseProjectiond`.
        **cubes: of :func:`medresnet3d.transforms.ct.nodule_cube_inference`.
    """
    projection = IntermediateDenseProjectiond("image", count, kind, sigma, growth)
    return Compose([nodule_cube_inference(**cubes), projection], log_stats=False).flatten()
