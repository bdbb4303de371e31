"""Whole pictures of specimens in fluorescence and masks of their cells: chains for a network that goes over windows.

Keys: ``image``, a picture, becomes one grey channel (1, i, j) between 0 and 1; ``label``, the path of a label map,
becomes (1, i, j).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    EnsureTyped,
    MapTransform,
    RandAdjustContrastd,
    RandAffined,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandRotate90d,
    RandSpatialCropd,
    SelectItemsd,
    SpatialPadd,
    Transform,
)

from medresnet3d.names import require_name
from medresnet3d.transforms.load import LoadVolumed
from medresnet3d.transforms.microscopy import CellMinMaxd
from medresnet3d.transforms.picture_pipelines import STRENGTHS

CARRIED = ("image", "label", "case", "path", "warnings")


class BrightestColourd(MapTransform):
    """A grey plane of a picture: in fluorescence the colours are copies of one signal, or all but one are black.

    Args:
        keys: pictures (C, i, j, 1); they become (1, i, j), the largest of the colours, with the same affine.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of ``data`` with planes."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = item[key][..., 0].amax(0, keepdim=True)
        return item


class PlaneAnswerd(MapTransform):
    """From logits on a picture's plane to the label map of the picture.

    Args:
        keys: logits (K, i, j); they become label maps (1, i, j, 1), uint8, with the affine of the picture.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of ``data`` with label maps."""
        item = dict(data)
        for key in self.key_iterator(item):
            logits = item[key]
            labels = torch.as_tensor(logits).argmax(0)[None, ..., None].to(torch.uint8)
            item[key] = MetaTensor(labels, meta=dict(logits.meta)) if isinstance(logits, MetaTensor) else labels
        return item


def specimen_training(
    window: int = 192, augmentation: str = "medium", percentiles: tuple[float, float] = (0.5, 99.5)
) -> Compose:
    """Random windows of specimen pictures and of their masks.

    Args:
        window: pixels along each edge.
        augmentation: ``none``; ``light``: mirrored and turned by right angles; ``medium`` and ``strong``: by any angle
            too, scaled by up to a tenth or a fifth, with other gamma, noise and blur.
        percentiles: which values of a picture become 0 and 1.

    Raises:
        ConfigError: if the augmentation is unknown.
    """
    level = STRENGTHS.index(require_name("Augmentation", augmentation, STRENGTHS))
    keys = ("image", "label")
    return Compose(
        [
            *_read(keys, percentiles),
            SpatialPadd(keys, (window, window)),
            RandSpatialCropd(keys, (window, window), random_size=False),
            *([RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in (0, 1)] if level else []),
            *([RandRotate90d(keys, prob=0.5)] if level else []),
            *(_varied(keys, 0.1 * (level - 1)) if level > 1 else []),
            EnsureTyped(keys, track_meta=False),
        ]
    ).flatten()


def _varied(keys: tuple[str, str], size: float) -> list[Transform]:
    return [
        RandAffined(
            keys,
            prob=0.5,
            rotate_range=np.pi / 4,
            scale_range=(size, size),
            mode=("bilinear", "nearest"),
            padding_mode="reflection",
        ),
        RandAdjustContrastd("image", prob=0.5, gamma=(1 - 4 * size, 1 + 8 * size)),
        RandGaussianSmoothd("image", prob=0.2, sigma_x=(0.3, 1.5), sigma_y=(0.3, 1.5)),
        RandGaussianNoised("image", prob=0.3, std=0.4 * size),
    ]


def specimen_validation(percentiles: tuple[float, float] = (0.5, 99.5)) -> Compose:
    """Whole specimen pictures with their masks."""
    return Compose(_read(("image", "label"), percentiles)).flatten()


def specimen_inference(percentiles: tuple[float, float] = (0.5, 99.5)) -> Compose:
    """Whole specimen pictures, as in :func:`specimen_validation`, without a mask."""
    return Compose(_read(("image",), percentiles)).flatten()


def _read(keys: tuple[str, ...], percentiles: tuple[float, float]) -> list[Transform]:
    labels = [key for key in keys if key == "label"]
    return [
        LoadVolumed("image", label_keys=labels, num_classes=2),
        BrightestColourd(keys),
        SelectItemsd(CARRIED, allow_missing_keys=True),
        CellMinMaxd("image", percentiles=percentiles),
    ]
