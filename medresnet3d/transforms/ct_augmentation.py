"""Random changes of a cube of chest CT, in four strengths."""

from __future__ import annotations

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


def nodule_cube_augmentation(strength: str, size: int, scale: float = 0.1, noise: float = 0.02) -> list[MapTransform]:
    """Random transforms of a windowed cube under ``image``, (1, n, n, n) with values 0 to 1.

    =========  ====================================================================================================
    strength   what varies
    =========  ====================================================================================================
    none       nothing
    light      flips along the three axes, turns by right angles in the three planes, a factor on the intensity, noise
    medium     and, in three of ten cubes, a turn by up to 10 degrees with up to a tenth of scaling; contrast
    strong     the same in six of ten, up to 20 degrees and a fifth, stronger contrast; boxes cut out (coarse dropout)
    =========  ====================================================================================================

    Args:
        strength: ``none``, ``light``, ``medium`` or ``strong``.
        size: n, voxels along each edge.
        scale: largest change of the intensity factor from 1.
        noise: largest standard deviation of the noise.

    Raises:
        ConfigError: if the strength is unknown.
    """
    if strength not in STRENGTHS:
        raise ConfigError(f"There is no augmentation {strength!r}; use {', '.join(STRENGTHS)}.")
    level = STRENGTHS.index(strength)
    if level == 0:
        return []
    chain: list[MapTransform] = [RandFlipd("image", prob=0.5, spatial_axis=axis) for axis in range(3)]
    planes = ((0, 1), (0, 2), (1, 2))
    chain += [RandRotate90d("image", prob=0.5, max_k=3, spatial_axes=plane) for plane in planes]
    if level > 1:
        chain += _deformations(0.3 * (level - 1), level - 1)
    chain += [RandScaleIntensityd("image", factors=scale, prob=0.5), RandGaussianNoised("image", prob=0.5, std=noise)]
    if level == len(STRENGTHS) - 1:
        small, large = max(1, size // 8), max(1, size // 4)
        chain.append(
            RandCoarseDropoutd(
                "image", holes=1, max_holes=4, spatial_size=small, max_spatial_size=large, fill_value=0.0, prob=0.5
            )
        )
    return chain


def _deformations(prob: float, factor: int) -> list[MapTransform]:
    """A small affine map and a change of contrast; ``factor`` 1 is up to 10 degrees and a tenth of scaling."""
    return [
        RandAffined(
            "image",
            prob=prob,
            rotate_range=(0.175 * factor,) * 3,
            scale_range=(0.1 * factor,) * 3,
            mode="bilinear",
            padding_mode="border",
        ),
        RandAdjustContrastd("image", prob=prob, gamma=(1 - 0.2 * factor, 1 + 0.25 * factor)),
    ]
