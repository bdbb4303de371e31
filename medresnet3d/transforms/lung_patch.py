"""Patches of chest CT for small networks: the middle plane of a cube, a picture, or the cube itself.

Made for Liang et al. (2018), who classify grey lung images; their size and windowing are not known to us.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import (
    BorderPad,
    Compose,
    EnsureTyped,
    MapTransform,
    RandSpatialCropd,
    Resize,
    ScaleIntensityRange,
    SelectItemsd,
)

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.transforms.ct import AIR_HU, CARRIED_ITEMS, TRAINING_ITEMS, CropAtPositiond
from medresnet3d.transforms.ct_augmentation import nodule_cube_augmentation
from medresnet3d.transforms.load import LoadVolumed
from medresnet3d.transforms.picture_pipelines import AsColour, CentralSquared


class LungPatchd(MapTransform):
    """From a scan with a point, a cube or a picture to a windowed patch around its middle.

    A volume is cut by :class:`~medresnet3d.transforms.ct.CropAtPositiond`; with ``spatial_dims=2`` the axial plane
    through the point is taken of it. A picture (one slice) is taken whole: its central square, colours averaged, is
    brought to ``size`` pixels whatever their size in mm. In a picture 0 is black and 255 (or 65535) white; only one
    with negative values is in HU and windowed as a volume is.

    Args:
        keys: images as :class:`~medresnet3d.transforms.load.LoadVolumed` leaves them, (C, i, j, k).
        size: pixels (voxels) along each edge.
        spacing: edge of a pixel in mm, for volumes.
        intensity_range: values that become 0 and 1, for volumes.
        spatial_dims: 2 or 3.
        margin: pixels to keep beyond each edge, for shifts that follow; those of a picture repeat its border.

    Raises:
        AmbiguousInputError: if a whole scan has no point.
        ConfigError: if ``spatial_dims`` is neither.
        DataError: if the point cannot be used, a volume has several channels, or a picture is given for three
            dimensions.
    """

    def __init__(
        self,
        keys: KeysCollection,
        size: int = 28,
        spacing: float = 1.0,
        intensity_range: Sequence[float] = (AIR_HU, 400.0),
        spatial_dims: int = 2,
        margin: int = 0,
    ) -> None:
        super().__init__(keys)
        if spatial_dims not in (2, 3):
            raise ConfigError(f"spatial_dims is {spatial_dims}; choose 2 or 3.")
        low, high = (float(value) for value in intensity_range)
        self.spatial_dims, self.margin, self.middle = spatial_dims, margin, size // 2 + margin
        self.cut = {key: CropAtPositiond(key, size, spacing, low, margin) for key in self.keys}
        self.window = ScaleIntensityRange(low, high, 0.0, 1.0, clip=True)
        self.resize = Compose(
            [
                Resize((size, size), mode="bilinear", anti_aliasing=True),
                BorderPad(margin, mode="replicate"),
            ]
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of ``data`` with (1, n, n), or (1, n, n, n) for three dimensions, in place of the images."""
        item = dict(data)
        for key in self.key_iterator(item):
            if item[key].shape[3] == 1:
                item[key] = self._picture(item[key])
            else:
                item = self._volume(item, key)
        return item

    def _picture(self, image: MetaTensor) -> Any:
        if self.spatial_dims == 3:
            raise DataError(
                f"{image.meta.get('filename_or_obj', 'image')}: it is a picture of one slice, but spatial_dims is 3; "
                "give volumes, or set spatial_dims=2."
            )
        if float(image.min()) >= 0:
            square = CentralSquared("image")({"image": image})["image"]
            return self.resize(AsColour()(square).mean(dim=0, keepdim=True))
        edge = min(image.shape[1:3])
        first, second = ((length - edge) // 2 for length in image.shape[1:3])
        return self.resize(self.window(image[:, first : first + edge, second : second + edge, 0]))

    def _volume(self, item: dict[Hashable, Any], key: Hashable) -> dict[Hashable, Any]:
        if item[key].shape[0] != 1:
            raise DataError(f"A patch is cut from one channel, but the image has {item[key].shape[0]}.")
        item = self.cut[key](item)
        cube = item[key]
        values = self.window(cube.as_tensor())
        affine = cube.affine.clone()
        if self.spatial_dims == 2:
            values = values[..., self.middle]
            affine[:3, 3] += self.middle * affine[:3, 2]
        meta = {"filename_or_obj": cube.meta.get("filename_or_obj", "")}
        item[key] = MetaTensor(torch.as_tensor(values).contiguous(), affine=affine, meta=meta)
        return item


def lung_patch_training(
    size: int = 28,
    spacing: float = 1.0,
    intensity_range: Sequence[float] = (AIR_HU, 400.0),
    spatial_dims: int = 2,
    shift: int = 2,
    augmentation: str = "light",
) -> Compose:
    """Patches for training: read, cut, window, then shifted by up to ``shift`` pixels and varied.

    Args:
        size: see :class:`LungPatchd`, as for the next three.
        spacing: edge of a pixel in mm.
        intensity_range: values that become 0 and 1.
        spatial_dims: 2 or 3.
        shift: largest shift along each axis, in pixels.
        augmentation: strength of :func:`~medresnet3d.transforms.ct_augmentation.nodule_cube_augmentation`; with
            ``none`` there is no shift either.

    Returns:
        a transform of items with ``image`` (path) and ``label`` to tensors of shape (1, n, n) or (1, n, n, n).

    Raises:
        ConfigError: if the augmentation is unknown.
    """
    changes = nodule_cube_augmentation(augmentation, size, spatial_dims=spatial_dims)
    return Compose(
        [
            LoadVolumed("image"),
            LungPatchd("image", size, spacing, intensity_range, spatial_dims, margin=shift if changes else 0),
            SelectItemsd(TRAINING_ITEMS, allow_missing_keys=True),
            *([RandSpatialCropd("image", roi_size=size, random_size=False), *changes] if changes else []),
            EnsureTyped("image", track_meta=False),
        ],
        log_stats=False,
    )


def lung_patch_inference(
    size: int = 28,
    spacing: float = 1.0,
    intensity_range: Sequence[float] = (AIR_HU, 400.0),
    spatial_dims: int = 2,
) -> Compose:
    """Patches for validation and inference, with no variation; see :func:`lung_patch_training`.

    Args:
        size: see :class:`LungPatchd`, as for the next three.
        spacing: edge of a pixel in mm.
        intensity_range: values that become 0 and 1.
        spatial_dims: 2 or 3.
    """
    return Compose(
        [
            LoadVolumed("image"),
            LungPatchd("image", size, spacing, intensity_range, spatial_dims),
            SelectItemsd(CARRIED_ITEMS, allow_missing_keys=True),
        ],
        log_stats=False,
    )
