"""Chest CT: cubes around a point of a scan, in Hounsfield units, and the pipelines of nodule classifiers."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    EnsureTyped,
    MapTransform,
    RandSpatialCropd,
    ScaleIntensityRanged,
    SelectItemsd,
    SpatialResample,
)
from monai.utils.enums import SpaceKeys
from numpy.typing import NDArray

from medresnet3d.errors import AmbiguousInputError, DataError
from medresnet3d.names import require_name
from medresnet3d.transforms.batched import carried_out
from medresnet3d.transforms.ct_augmentation import nodule_cube_augmentation
from medresnet3d.transforms.load import LoadVolumed
from medresnet3d.transforms.mri_intensity import MedicalNetNormalised

AIR_HU = -1000.0
INTENSITIES = ("window", "medicalnet")
TRAINING_ITEMS = ("image", "label", "case")
CARRIED_ITEMS = ("image", "label", "case", "path", "position", "warnings")


class CropAtPositiond(MapTransform):
    """Cut a cube of isotropic voxels, its axes along right, anterior and superior, around a point of a scan.

    Only the voxels that the cube needs are resampled (linearly), whatever the orientation or obliqueness of the scan.
    The point becomes the centre of voxel ``size // 2`` on each axis. Where the cube reaches out of the scan it is
    filled with ``padding``.

    An item without a point is taken for a cube that was cut before, and its middle voxel for the point; an image that
    is more than ``whole_scan_factor`` times as large as the cube is a whole scan and is refused.

    Args:
        keys: images, :class:`monai.data.MetaTensor` of shape (C, i, j, k) with RAS+ affine.
        size: voxels along each edge of the cube.
        spacing: edge of a voxel of the cube in mm.
        padding: value outside of the scan.
        margin: voxels to keep beyond each face of the cube, for shifts that follow.
        position_key: where the item has its point, [x, y, z] in mm, RAS+; it is filled in where it was missing.
        whole_scan_factor: extent relative to the cube's beyond which an image without a point is refused.

    Raises:
        AmbiguousInputError: if a whole scan has no point.
        DataError: if the point is malformed or lies outside of the scan.

    Example:
        >>> crop = CropAtPositiond("image", size=32)
        >>> crop({"image": scan, "position": [-61.0, 40.5, -12.0]})["image"].shape  # doctest: +SKIP
        torch.Size([1, 32, 32, 32])
    """

    def __init__(
        self,
        keys: KeysCollection,
        size: int,
        spacing: float = 1.0,
        padding: float = AIR_HU,
        margin: int = 0,
        position_key: str = "position",
        whole_scan_factor: float = 2.0,
    ) -> None:
        super().__init__(keys)
        self.size = size
        self.spacing = spacing
        self.padding = padding
        self.margin = margin
        self.position_key = position_key
        self.whole_scan_factor = whole_scan_factor

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of ``data`` with each image replaced by its cube, (C, n, n, n) with n = size + 2 * margin."""
        item = dict(data)
        given = item.get(self.position_key)
        for key in self.key_iterator(item):
            image = item[key]
            centre = self._middle(image) if given is None else self._point(image, given)
            item[key] = self._cube(image, centre)
            item[self.position_key] = [float(value) for value in centre]
        return item

    def _middle(self, image: MetaTensor) -> NDArray[np.float64]:
        """The centre of the middle voxel of an image that is a cube already."""
        affine, shape = _geometry(image)
        extent = np.linalg.norm(affine[:3, :3], axis=0) * shape
        cube = self.size * self.spacing
        if extent.max() > self.whole_scan_factor * cube:
            measures = " x ".join(f"{value:.0f}" for value in extent)
            raise AmbiguousInputError(
                f"{_name(image)}: the image measures {measures} mm, a whole scan, but this bundle classifies one cube "
                f"of {cube:g} mm: give the point with --at x,y,z (mm, RAS+) or `{self.position_key}` in the manifest "
                "(lung_nodule_detection_attention_resnet, once trained, finds such points)."
            )
        return affine[:3, :3] @ (shape // 2) + affine[:3, 3]

    def _point(self, image: MetaTensor, given: Any) -> NDArray[np.float64]:
        """The given point, checked against the scan."""
        try:
            point = np.asarray(given, dtype=np.float64).reshape(3)
        except (TypeError, ValueError):
            point = np.full(3, np.nan)
        if not np.isfinite(point).all():
            raise DataError(
                f"{_name(image)}: `{self.position_key}` is {given!r}; give three numbers x, y, z in mm, RAS+."
            )
        affine, shape = _geometry(image)
        voxel = np.linalg.solve(affine[:3, :3], point - affine[:3, 3])
        if (voxel < -0.5).any() or (voxel > shape - 0.5).any():
            corners = _corners(np.full(3, -0.5), shape - 0.5) @ affine[:3, :3].T + affine[:3, 3]
            ranges = ", ".join(
                f"{axis} {low:.0f} to {high:.0f}"
                for axis, low, high in zip("xyz", corners.min(0), corners.max(0), strict=True)
            )
            text = ", ".join(f"{value:g}" for value in point)
            raise DataError(
                f"{_name(image)}: the point ({text}) lies outside of the scan, which covers {ranges} mm; "
                "give it in mm, RAS+ (DICOM, ITK and LUNA16 are LPS: change the signs of x and y)."
            )
        return point

    def _cube(self, image: MetaTensor, centre: NDArray[np.float64]) -> MetaTensor:
        affine, shape = _geometry(image)
        size = self.size + 2 * self.margin
        target = np.diag([self.spacing] * 3 + [1.0])
        target[:3, 3] = centre - self.spacing * (self.size // 2 + self.margin)
        corners = _corners(np.zeros(3), np.full(3, size - 1.0)) @ target[:3, :3].T + target[:3, 3]
        voxels = np.linalg.solve(affine[:3, :3], (corners - affine[:3, 3]).T).T
        start = np.clip(np.floor(voxels.min(0)).astype(int) - 1, 0, shape - 1)
        stop = np.clip(np.ceil(voxels.max(0)).astype(int) + 2, 1, shape)
        part = image.as_tensor()[:, start[0] : stop[0], start[1] : stop[1], start[2] : stop[2]]
        source = affine.copy()
        source[:3, 3] += affine[:3, :3] @ start
        # zeros stand for what lies outside, so the padding value is moved to zero for the time of resampling
        resample = SpatialResample(mode="bilinear", padding_mode="zeros", align_corners=True)
        shifted = MetaTensor(part.float() - self.padding, affine=torch.from_numpy(source))
        cube = resample(shifted, dst_affine=torch.from_numpy(target), spatial_size=(size,) * 3)
        meta = {
            "filename_or_obj": image.meta.get("filename_or_obj", ""),
            "spatial_shape": np.array(cube.shape[1:]),
            "original_affine": target.copy(),
            "original_channel_dim": float("nan"),
            "space": SpaceKeys.RAS,
        }
        values = torch.as_tensor(cube).as_subclass(torch.Tensor).float() + self.padding
        return MetaTensor(values, affine=torch.from_numpy(target.copy()), meta=meta)


def _geometry(image: MetaTensor) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    return np.asarray(image.affine, dtype=np.float64), np.array(image.shape[1:])


def _corners(low: NDArray[Any], high: NDArray[Any]) -> NDArray[np.float64]:
    """The eight corners of a box, (8, 3)."""
    return np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij"), -1).reshape(-1, 3).astype(np.float64)


def _name(image: MetaTensor) -> str:
    return str(image.meta.get("filename_or_obj", "image"))


def _edge(crop_size_mm: float, spacing: float) -> int:
    return max(1, round(crop_size_mm / spacing))


def _beyond_window(intensity: str) -> list[MapTransform]:
    """What is done to a windowed cube, of exactly the voxels that the network sees."""
    require_name("Intensity", intensity, INTENSITIES)
    return [MedicalNetNormalised("image")] if intensity == "medicalnet" else []


def nodule_cube_training(
    crop_size_mm: float = 32.0,
    spacing: float = 1.0,
    intensity_range: Sequence[float] = (AIR_HU, 400.0),
    shift: int = 3,
    scale: float = 0.1,
    noise: float = 0.02,
    augmentation: str = "light",
    augmentation_mode: str = "per_sample",
    intensity: str = "window",
) -> Compose:
    """Cubes for training a nodule classifier: read, cut, window, then vary.

    Variation: a shift of up to ``shift`` voxels, and what
    :func:`medresnet3d.transforms.ct_augmentation.nodule_cube_augmentation` does at the strength ``augmentation``. All
    steps before are the same in every epoch and can be cached.

    Args:
        crop_size_mm: edge of the cube in mm.
        spacing: edge of a voxel in mm.
        intensity_range: values that become 0 and 1, beyond which is cut off; HU for CT, (0, 255) for cubes that were
            saved as windowed bytes.
        shift: largest shift along each axis, in voxels.
        scale: largest change of the intensity factor from 1.
        noise: largest standard deviation of the noise, in units of the window (or, with ``medicalnet``, of z-scores).
        augmentation: ``none`` (no shift either), ``light``, ``medium``, ``strong`` or ``shape``.
        augmentation_mode: ``per_sample``, or ``batched``: the cubes are only shifted here, and the rest is drawn for
            :class:`medresnet3d.transforms.batched.AugmentedBatch`, which carries it out on the device.
        intensity: ``window`` (0 to 1), or ``medicalnet``: then z-scores by the voxels of the cube above 0, which are
            denser than the window's lower end, and noise in the others, as
            :class:`~medresnet3d.transforms.mri_intensity.MedicalNetNormalise` has it.

    Returns:
        a transform of items with ``image`` (path) and ``label`` to tensors of shape (1, n, n, n).

    Raises:
        ConfigError: if the augmentation, its mode or the intensity is unknown.
    """
    size = _edge(crop_size_mm, spacing)
    low, high = (float(value) for value in intensity_range)
    changes = nodule_cube_augmentation(augmentation, size, scale, noise)
    margin = shift if changes else 0
    return Compose(
        [
            LoadVolumed("image"),
            CropAtPositiond("image", size, spacing, low, margin=margin),
            ScaleIntensityRanged("image", low, high, 0.0, 1.0, clip=True),
            SelectItemsd(TRAINING_ITEMS, allow_missing_keys=True),
            RandSpatialCropd("image", roi_size=size, random_size=False),
            *_beyond_window(intensity),
            *carried_out(changes, augmentation_mode),
            EnsureTyped("image", track_meta=False),
        ],
        log_stats=False,
    )


def nodule_cube_inference(
    crop_size_mm: float = 32.0,
    spacing: float = 1.0,
    intensity_range: Sequence[float] = (AIR_HU, 400.0),
    intensity: str = "window",
) -> Compose:
    """Cubes for validation and inference: read, cut and window as in :func:`nodule_cube_training`, with no variation.

    Args:
        crop_size_mm: edge of the cube in mm.
        spacing: edge of a voxel in mm.
        intensity_range: values that become 0 and 1.
        intensity: see :func:`nodule_cube_training`.

    Returns:
        a transform of items with ``image`` (path) and, for whole scans, ``position`` to tensors of shape (1, n, n, n)
        whose affine says where the cube lies.

    Raises:
        ConfigError: if the intensity is unknown.
    """
    low, high = (float(value) for value in intensity_range)
    return Compose(
        [
            LoadVolumed("image"),
            CropAtPositiond("image", _edge(crop_size_mm, spacing), spacing, low),
            ScaleIntensityRanged("image", low, high, 0.0, 1.0, clip=True),
            *_beyond_window(intensity),
            SelectItemsd(CARRIED_ITEMS, allow_missing_keys=True),
        ],
        log_stats=False,
    )
