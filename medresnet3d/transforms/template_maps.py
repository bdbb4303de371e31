"""Maps between scans and a template: kept in files, and applied to images and label maps."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch.nn import functional

from medresnet3d.io.atomic import atomic_path
from medresnet3d.transforms.registration import Warp


@dataclass(frozen=True, eq=False)
class Placed:
    """What is kept of a scan that was registered to the template.

    Attributes:
        shape: its spatial shape.
        affine: (d + 1, d + 1), from its voxels to mm.
        from_template: where the template's points lie in it.
        to_template: where its points lie in the template.
        quantiles: smallest intensity, then intensities at equal steps of the distribution of its foreground.
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    from_template: Warp
    to_template: Warp
    quantiles: NDArray[np.float32]

    def save(self, path: Path) -> None:
        """Write an ``.npz`` file, whole or not at all."""
        with atomic_path(path) as temporary:
            np.savez(
                temporary,
                shape=np.array(self.shape),
                affine=self.affine,
                from_field=self.from_template.field,
                from_affine=self.from_template.affine,
                to_field=self.to_template.field,
                to_affine=self.to_template.affine,
                quantiles=self.quantiles,
            )

    @classmethod
    def load(cls, path: Path) -> Placed:
        """Read what :meth:`save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            return cls(
                tuple(int(size) for size in file["shape"]),
                file["affine"],
                Warp(file["from_field"], file["from_affine"]),
                Warp(file["to_field"], file["to_affine"]),
                file["quantiles"],
            )


def warp_image(image: MetaTensor, source: Placed, goal: Placed) -> MetaTensor:
    """A scan (C, ...) that is ``source``, on the grid of ``goal``, linearly; its smallest value beyond its borders."""
    floor = image.as_tensor().float().flatten(1).amin(1).reshape(-1, *[1] * (image.ndim - 1))
    moved = _sample(image.as_tensor().float() - floor, source.affine, _positions(source, goal), "bilinear", "zeros")
    return _on_grid(moved + floor, image, goal)


def warp_label(label: MetaTensor, source: Placed, goal: Placed) -> MetaTensor:
    """A label map (1, ...) that belongs to ``source``, on the grid of ``goal``, by the nearest voxel; 0 beyond."""
    moved = _sample(label.as_tensor().float(), source.affine, _positions(source, goal), "nearest", "zeros")
    return _on_grid(moved.to(label.dtype), label, goal)


def _positions(source: Placed, goal: Placed) -> torch.Tensor:
    """Where the voxels of ``goal`` lie in ``source``, in mm (d, ...): through the template, found on a coarse grid."""
    coarse = _points(goal.to_template.field.shape[1:], goal.to_template.affine)
    in_template = coarse + torch.from_numpy(goal.to_template.field)
    onward = torch.from_numpy(source.from_template.field)
    total = in_template + _sample(onward, source.from_template.affine, in_template, "bilinear", "border") - coarse
    fine = _points(goal.shape, goal.affine)
    return fine + _sample(total, goal.to_template.affine, fine, "bilinear", "border")


def _points(shape: Sequence[int], affine: NDArray[np.float64]) -> torch.Tensor:
    """Positions in mm (d, ...) of the voxels of a grid."""
    axes = torch.meshgrid(*(torch.arange(size, dtype=torch.float32) for size in shape), indexing="ij")
    return _mapped(torch.stack(axes), affine)


def _mapped(points: torch.Tensor, affine: NDArray[np.float64]) -> torch.Tensor:
    matrix = torch.as_tensor(affine, dtype=torch.float32)
    offset = matrix[:-1, -1].reshape(-1, *[1] * (points.ndim - 1))
    return torch.tensordot(matrix[:-1, :-1], points, dims=1) + offset


def _sample(
    values: torch.Tensor, affine: NDArray[np.float64], points: torch.Tensor, mode: str, padding: str
) -> torch.Tensor:
    """Values (C, ...) on a grid, read at positions in mm (d, ...)."""
    index = _mapped(points, np.linalg.inv(affine).astype(np.float64))
    size = torch.tensor([max(2, length) for length in values.shape[1:]]).reshape(-1, *[1] * (points.ndim - 1))
    grid = (2 * index / (size - 1) - 1).flip(0).movedim(0, -1)
    return functional.grid_sample(values[None], grid[None], mode, padding, align_corners=True)[0]


def _on_grid(values: torch.Tensor, like: MetaTensor, goal: Placed) -> MetaTensor:
    affine = np.eye(4)
    dims = len(goal.shape)
    affine[:dims, :dims], affine[:dims, 3] = goal.affine[:-1, :-1], goal.affine[:-1, -1]
    meta = dict(like.meta) | {"spatial_shape": np.array(goal.shape)}
    meta.pop("affine", None)
    return MetaTensor(values, affine=torch.from_numpy(affine), meta=meta)


def read_placed(path: Path) -> Placed | None:
    """What a file of the cache holds; ``None`` if there is none, or a damaged one."""
    if not path.is_file():
        return None
    try:
        return Placed.load(path)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        warnings.warn(f"{path}: the map is damaged ({error}); it is made anew.", stacklevel=2)
        return None
