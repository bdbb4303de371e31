"""Random changes of a cube of chest CT, in four strengths, and of a shape."""

from __future__ import annotations

import math
from itertools import combinations

from monai.transforms import (
    MapTransform,
    RandAdjustContrastd,
    RandAffined,
    RandCoarseDropoutd,
    RandFlipd,
    RandGaussianNoised,
    RandRotate90d,
    RandScaleIntensityd,
)

from medresnet3d.errors import ConfigError

#: Strengths of :func:`nodule_cube_augmentation`.
STRENGTHS = ("none", "light", "medium", "strong")
#: All that :func:`nodule_cube_augmentation` knows.
AUGMENTATIONS = (*STRENGTHS, "shape")


def nodule_cube_augmentation(
    strength: str, size: int, scale: float = 0.1, noise: float = 0.02, spatial_dims: int = 3
) -> list[MapTransform]:
    """Random transforms of a windowed cube under ``image``, (1, n, n, n) with values 0 to 1, or of a plane, (1, n, n).

    =========  ====================================================================================================
    strength   what varies
    =========  ====================================================================================================
    none       nothing
    light      flips along all axes, turns by right angles in all planes, a factor on the intensity, noise
    medium     and, in three of ten cubes, a turn by up to 10 degrees with up to a tenth of scaling; contrast
    strong     the same in six of ten, up to 20 degrees and a fifth, stronger contrast; boxes cut out (coarse dropout)
    shape      for cubes that hold a label map: flips, turns by right angles and, in eight of ten, by up to 45 degrees
               with up to a tenth of scaling, empty where nothing was; values stay as they are
    =========  ====================================================================================================

    Args:
        strength: ``none``, ``light``, ``medium``, ``strong`` or ``shape``.
        size: n, voxels along each edge.
        scale: largest change of the intensity factor from 1.
        noise: largest standard deviation of the noise.
        spatial_dims: 3 for cubes, 2 for planes.

    Raises:
        ConfigError: if the strength is unknown.
    """
    if strength not in AUGMENTATIONS:
        raise ConfigError(f"There is no augmentation {strength!r}; use {', '.join(AUGMENTATIONS)}.")
    if strength == "shape":
        return [*_symmetries(spatial_dims), _affine(0.8, math.pi / 4, 0.1, "zeros", spatial_dims)]
    level = STRENGTHS.index(strength)
    if level == 0:
        return []
    chain = _symmetries(spatial_dims)
    if level > 1:
        chain += _deformations(0.3 * (level - 1), level - 1, spatial_dims)
    chain += [RandScaleIntensityd("image", factors=scale, prob=0.5), RandGaussianNoised("image", prob=0.5, std=noise)]
    if level == len(STRENGTHS) - 1:
        small, large = max(1, size // 8), max(1, size // 4)
        chain.append(
            RandCoarseDropoutd(
                "image", holes=1, max_holes=4, spatial_size=small, max_spatial_size=large, fill_value=0.0, prob=0.5
            )
        )
    return chain


def _symmetries(spatial_dims: int) -> list[MapTransform]:
    """Flips along all axes and turns by right angles in all planes."""
    flips: list[MapTransform] = [RandFlipd("image", prob=0.5, spatial_axis=axis) for axis in range(spatial_dims)]
    planes = combinations(range(spatial_dims), 2)
    return flips + [RandRotate90d("image", prob=0.5, max_k=3, spatial_axes=plane) for plane in planes]


def _affine(prob: float, angle: float, scaling: float, padding_mode: str, spatial_dims: int) -> MapTransform:
    """A turn by up to ``angle`` (radians) about each axis, with scaling of each by up to ``scaling``."""
    return RandAffined(
        "image",
        prob=prob,
        rotate_range=(angle,) * (3 if spatial_dims == 3 else 1),
        scale_range=(scaling,) * spatial_dims,
        mode="bilinear",
        padding_mode=padding_mode,
    )


def _deformations(prob: float, factor: int, spatial_dims: int) -> list[MapTransform]:
    """A small affine map and a change of contrast; ``factor`` 1 is up to 10 degrees and a tenth of scaling."""
    return [
        _affine(prob, 0.175 * factor, 0.1 * factor, "border", spatial_dims),
        RandAdjustContrastd("image", prob=prob, gamma=(1 - 0.2 * factor, 1 + 0.25 * factor)),
    ]
