"""The regions around both hippocampi of a whole brain, as the two channels of one image.

One resampling brings a skull-stripped T1 scan to a grid in the frame of a reference that covers both sides
(:mod:`medresnet3d.transforms.brain_grid`); its left half is mirrored, so that each channel looks like a right side.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    EnsureTyped,
    MapTransform,
    RandAdjustContrastd,
    RandGaussianNoised,
    Randomizable,
    RandSpatialCropd,
    SelectItemsd,
    SpatialResample,
    Transform,
)

from medresnet3d.names import require_name
from medresnet3d.transforms.brain_grid import CARRIED_ITEMS, STRENGTHS, prepare_brain
from medresnet3d.transforms.load import LoadVolumed

NO_MASK = -1.0
"""Value of all voxels of a mask that is not there."""

HIPPOCAMPI_MM = (0.0, -5.0, -24.0)
"""Between both hippocampi, from the middle of the brain."""


class MaskOnGridd(MapTransform):
    """Read the mask of the hippocampi and bring it to the grid of the prepared image; any label above 0 counts.

    Args:
        keys: where the path of the mask is; an item without it gets -1
            everywhere.
        image_key: prepared image (1, i, j, k), a MetaTensor whose affine is in the frame of the scan.
    """

    def __init__(self, keys: KeysCollection = "mask", image_key: str = "image") -> None:
        super().__init__(keys)
        self.image_key = image_key
        self.resample = SpatialResample(mode="bilinear", padding_mode="zeros", align_corners=True)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give the item with masks (1, i, j, k), float32 MetaTensors."""
        item = dict(data)
        image: MetaTensor = item[self.image_key]
        for key in self.keys:
            if item.get(key) is None:
                item[key] = MetaTensor(torch.full(image.shape, NO_MASK), affine=image.affine)
                continue
            mask = LoadVolumed([], label_keys=[key])({key: item[key]})[key]
            part = MetaTensor((mask.as_tensor() > 0).float(), affine=mask.affine)
            moved = self.resample(part, dst_affine=image.affine, spatial_size=image.shape[1:])
            item[key] = MetaTensor((moved.as_subclass(torch.Tensor) > 0.5).float(), affine=image.affine)
        return item


class SidesToChannelsd(MapTransform):
    """Put left and right halves into channels, the left one mirrored: (1, 2n, j, k) to (2, n, j, k).

    Args:
        keys: volumes whose first axis runs from left to right, of an even number of voxels.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give the item with regions; a MetaTensor keeps the metadata of the whole."""
        item = dict(data)
        for key in self.key_iterator(item):
            volume = item[key]
            plain = volume.as_tensor() if isinstance(volume, MetaTensor) else volume
            left, right = plain[0].chunk(2)
            sides = torch.stack([left.flip(0), right])
            item[key] = MetaTensor(sides, meta=dict(volume.meta)) if isinstance(volume, MetaTensor) else sides
        return item


class RandSwapSidesd(MapTransform, Randomizable):
    """Mirror the brain, with some probability: left and right change places.

    Args:
        keys: regions (2, i, j, k).
        prob: how often.
    """

    def __init__(self, keys: KeysCollection, prob: float = 0.5, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.prob = prob

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give the item, all its regions swapped or none."""
        item = dict(data)
        if self.R.uniform() < self.prob:
            for key in self.key_iterator(item):
                item[key] = item[key].flip(0)
        return item


def _whole(region: Sequence[int]) -> list[int]:
    """Voxels of the grid of which each half is a region."""
    return [2 * int(region[0]), *(int(size) for size in region[1:])]


def hippocampus_regions_training(
    shape: Sequence[int],
    spacing: float = 2.0,
    align: bool = True,
    template: str | None = None,
    check: bool = True,
    centre_mm: Sequence[float] = HIPPOCAMPI_MM,
    shift: int = 2,
    augmentation: str = "light",
) -> Compose:
    """Both regions with their masks and the class, for training.

    Args:
        shape: voxels of a region along right, anterior and superior.
        spacing: edge of a voxel in mm.
        align: see :class:`~medresnet3d.transforms.brain_grid.BrainGridd`.
        template: see :class:`~medresnet3d.transforms.brain_grid.BrainGridd`.
        check: refuse scans of whole heads.
        centre_mm: between the hippocampi, in the reference's frame.
        shift: largest shift along each axis, in voxels.
        augmentation: ``none``; ``light``: shift, sides swapped, noise; ``medium`` and ``strong``: contrast too.

    Returns:
        a transform of items with ``image`` (path), ``label`` and perhaps ``mask`` (path) to tensors (2, i, j, k) of
        image and mask.

    Raises:
        ConfigError: for an unknown augmentation.
    """
    level = STRENGTHS.index(require_name("Augmentation", augmentation, STRENGTHS))
    both = ["image", "mask"]
    swap: list[Transform] = [RandSwapSidesd(both), RandGaussianNoised("image", prob=0.5, std=0.1)] if level else []
    contrast: list[Transform] = [RandAdjustContrastd("image", prob=0.2 * level, gamma=(0.8, 1.25))] if level > 1 else []
    return Compose(
        [
            *prepare_brain(_whole(shape), spacing, align, template, check, shift if level else 0, centre_mm),
            MaskOnGridd("mask"),
            SelectItemsd([*both, "label", "case"], allow_missing_keys=True),
            RandSpatialCropd(both, roi_size=_whole(shape), random_size=False),
            SidesToChannelsd(both),
            *swap,
            *contrast,
            EnsureTyped(both, track_meta=False),
        ],
        log_stats=False,
    )


def hippocampus_regions_inference(
    shape: Sequence[int],
    spacing: float = 2.0,
    align: bool = True,
    template: str | None = None,
    check: bool = True,
    centre_mm: Sequence[float] = HIPPOCAMPI_MM,
) -> Compose:
    """Both regions with no variation; a mask is not needed.

    Args:
        shape: see :func:`hippocampus_regions_training`.
        spacing: see :func:`hippocampus_regions_training`.
        align: see :func:`hippocampus_regions_training`.
        template: see :func:`hippocampus_regions_training`.
        check: see :func:`hippocampus_regions_training`.
        centre_mm: see :func:`hippocampus_regions_training`.
    """
    return Compose(
        [
            *prepare_brain(_whole(shape), spacing, align, template, check, centre_mm=centre_mm),
            SelectItemsd(CARRIED_ITEMS, allow_missing_keys=True),
            SidesToChannelsd("image"),
        ],
        log_stats=False,
    )
