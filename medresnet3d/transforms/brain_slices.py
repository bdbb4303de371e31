"""A part of the brain for a classifier: as a volume, or as axial slices of which each is looked at by itself."""

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
    Randomizable,
    RandSpatialCropd,
    SelectItemsd,
    Transform,
)

from medresnet3d.errors import ConfigError
from medresnet3d.transforms.brain_grid import CARRIED_ITEMS, TRAINING_ITEMS, brain_augmentation, prepare_brain
from medresnet3d.transforms.plane_packing import pack_planes

MID_TEMPORAL_MM = (0.0, 0.0, -28.0)
"""Where the hippocampi lie, from the middle of the brain: some 28 mm below it."""


class SlicesToChannelsd(MapTransform):
    """Put the axial slices of a volume into the channels: (1, i, j, k) to (k, i, j), lowest slice first.

    Args:
        keys: volumes.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of ``data`` with stacks of slices; a MetaTensor keeps its affine, and where each slice lies."""
        item = dict(data)
        for key in self.key_iterator(item):
            volume = item[key]
            plain = volume.as_tensor() if isinstance(volume, MetaTensor) else volume
            stack = plain[0].movedim(-1, 0).contiguous()
            item[key] = pack_planes(stack, volume, [(2, index) for index in range(len(stack))])
        return item


class RandSliced(MapTransform, Randomizable):
    """Take one slice of a stack at random: (k, i, j) to (1, i, j).

    Args:
        keys: stacks of the same number of slices.
    """

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of ``data`` with one slice of each stack, the same place in all."""
        item = dict(data)
        index = None
        for key in self.key_iterator(item):
            index = int(self.R.randint(item[key].shape[0])) if index is None else index
            item[key] = torch.as_tensor(item[key])[index : index + 1]
        return item


def _dimensions(spatial_dims: int) -> int:
    if spatial_dims not in (2, 3):
        raise ConfigError(f"spatial_dims is {spatial_dims}; use 2 for slices or 3 for a volume.")
    return spatial_dims


def brain_class_training(
    shape: Sequence[int],
    spatial_dims: int = 2,
    spacing: float = 2.0,
    align: bool = True,
    template: str | None = None,
    check: bool = True,
    centre_mm: Sequence[float] = MID_TEMPORAL_MM,
    shift: int = 2,
    augmentation: str = "light",
) -> Compose:
    """A part of the brain for training a classifier: a volume, or in each epoch one axial slice of it at random.

    Args:
        shape: voxels of the part along right, anterior and superior.
        spatial_dims: 3 for volumes (1, i, j, k), 2 for slices (1, i, j).
        spacing: edge of a voxel in mm.
        align: see :class:`~medresnet3d.transforms.brain_grid.BrainGridd`.
        template: see :class:`~medresnet3d.transforms.brain_grid.BrainGridd`.
        check: refuse scans of whole heads.
        centre_mm: see :class:`~medresnet3d.transforms.brain_grid.BrainGridd`.
        shift: largest shift along each axis (of slices: in their plane and across), in voxels.
        augmentation: see :func:`~medresnet3d.transforms.brain_grid.brain_augmentation`; ``none`` leaves out the shift.

    Raises:
        ConfigError: for another number of dimensions or an unknown augmentation.
    """
    changes = brain_augmentation(augmentation, _dimensions(spatial_dims))
    slices: list[Transform] = [SlicesToChannelsd("image"), RandSliced("image")] if spatial_dims == 2 else []
    return Compose(
        [
            *prepare_brain(shape, spacing, align, template, check, shift if changes else 0, centre_mm),
            SelectItemsd(TRAINING_ITEMS, allow_missing_keys=True),
            RandSpatialCropd("image", roi_size=list(shape), random_size=False),
            *slices,
            *changes,
            EnsureTyped("image", track_meta=False),
        ],
        log_stats=False,
    )


def brain_class_inference(
    shape: Sequence[int],
    spatial_dims: int = 2,
    spacing: float = 2.0,
    align: bool = True,
    template: str | None = None,
    check: bool = True,
    centre_mm: Sequence[float] = MID_TEMPORAL_MM,
) -> Compose:
    """The same part with no variation: a volume (1, i, j, k), or all its slices as channels (k, i, j).

    Args:
        shape: see :func:`brain_class_training`.
        spatial_dims: see :func:`brain_class_training`.
        spacing: see :func:`brain_class_training`.
        align: see :func:`brain_class_training`.
        template: see :func:`brain_class_training`.
        check: see :func:`brain_class_training`.
        centre_mm: see :func:`brain_class_training`.

    Raises:
        ConfigError: for another number of dimensions.
    """
    slices: list[Transform] = [SlicesToChannelsd("image")] if _dimensions(spatial_dims) == 2 else []
    return Compose(
        [
            *prepare_brain(shape, spacing, align, template, check, centre_mm=centre_mm),
            SelectItemsd(CARRIED_ITEMS, allow_missing_keys=True),
            *slices,
        ],
        log_stats=False,
    )
