"""Slices of breast MRI, whose intensities have no unit."""

from __future__ import annotations

from collections.abc import Sequence

from monai.transforms import ScaleIntensityRangePercentilesd, Transform

from medresnet3d.errors import ConfigError


def slice_preparation(percentiles: Sequence[float] = (0.5, 99.5)) -> list[Transform]:
    """What a slice goes through before it is treated as a picture: ``prepare`` of the chains of pictures.

    Args:
        percentiles: which intensities of a slice become black and white; what lies beyond is cut off.

    Returns:
        dictionary transforms of ``image``, (1, i, j, 1) or (3, i, j, 1) of any unit, to values from 0 to 1.

    Raises:
        ConfigError: if the percentiles are not two increasing numbers from 0 to 100.
    """
    if len(percentiles) != 2 or not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise ConfigError(f"percentiles are {list(percentiles)}; give two increasing numbers from 0 to 100.")
    low, high = (float(each) for each in percentiles)
    return [ScaleIntensityRangePercentilesd("image", low, high, 0.0, 1.0, clip=True)]
