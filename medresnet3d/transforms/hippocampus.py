"""Preparation, augmentation and answers for T1 crops around one hippocampus.

Keys: ``image``, ``label`` (0 background, 1 anterior, 2 posterior), ``pred``; ``box`` is the mask of what belongs to the
crop, since images are padded to sides that the network divides.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import (
    AsDiscreted,
    Compose,
    CropForegroundd,
    Invertd,
    MapTransform,
    Orientationd,
    RandAdjustContrastd,
    RandBiasFieldd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    Randomizable,
    RandScaleIntensityd,
    RandShiftIntensityd,
    SelectItemsd,
    Spacingd,
    Transform,
)

from medresnet3d.errors import AmbiguousInputError, DataError
from medresnet3d.names import require_name
from medresnet3d.transforms.load import LoadVolumed
from medresnet3d.transforms.mri_augmentation import RandThickSlicesd, random_bending, random_linear_map, sample_at

CROP_MM = (48.0, 64.0, 48.0)  # of a crop around a point, along right, anterior and superior
WHOLE_SCAN_MM = 100.0  # an image that is longer on any side is no crop
PERCENTILES = (0.5, 99.5)  # beyond these intensities are cut off
MULTIPLE = 8  # sides are padded to multiples of what the network divides them by
CLASSES = 3  # background, anterior, posterior
STRENGTHS = {"none": 0.0, "light": 0.5, "medium": 1.0, "strong": 1.5}


class HippocampusBoxd(MapTransform):
    """Add the mask of the crop: an image that is one, or a box around the item's point in a larger scan.

    Planes of the image's first value that pad a crop on its sides do not belong to it: they would shift the mean.

    Args:
        keys: the image (C, i, j, k) as MetaTensor.
        size_mm: edges of the box along right, anterior and superior.
        box_key: gets the mask (1, i, j, k), uint8, on the image's grid.

    Raises:
        AmbiguousInputError: if the image is a whole scan and the item has no ``position``.
        DataError: if the point is malformed or no voxel of the scan is near it.
    """

    def __init__(self, keys: KeysCollection, size_mm: Sequence[float] = CROP_MM, box_key: str = "box") -> None:
        super().__init__(keys)
        self.size_mm, self.box_key = tuple(float(size) for size in size_mm), box_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give the item with the mask."""
        item = dict(data)
        image: MetaTensor = item[self.keys[0]]
        affine = np.asarray(image.affine, dtype=np.float64)
        point = item.get("position")
        if point is None:
            self._require_crop(image, affine)
            inside = _content(np.asarray(image[0]))
        else:
            inside = self._near(image, affine, point)
        item[self.box_key] = MetaTensor(torch.from_numpy(inside.astype(np.uint8))[None], meta=dict(image.meta))
        return item

    def _require_crop(self, image: MetaTensor, affine: np.ndarray) -> None:
        extent = np.linalg.norm(affine[:3, :3], axis=0) * image.shape[1:]
        if extent.max() > WHOLE_SCAN_MM:
            measures = " x ".join(f"{value:.0f}" for value in extent)
            raise AmbiguousInputError(
                f"{image.meta.get('filename_or_obj', 'image')}: the image measures {measures} mm, a whole scan, but "
                "this bundle labels one hippocampus in a crop of about 35 x 50 x 36 mm: crop it, or give a point "
                "inside the hippocampus with --at x,y,z (mm, RAS+) or `position` in the manifest."
            )

    def _near(self, image: MetaTensor, affine: np.ndarray, point: Any) -> np.ndarray:
        """Voxels whose middles lie in the box around a point."""
        try:
            centre = np.asarray(point, dtype=np.float64).reshape(3)
        except (TypeError, ValueError):
            centre = np.full(3, np.nan)
        i, j, k = np.ogrid[tuple(slice(0, size) for size in image.shape[1:])]
        inside = np.ones(image.shape[1:], bool)
        for axis in range(3):
            row = affine[axis]
            offset = row[0] * i + row[1] * j + row[2] * k + (row[3] - centre[axis])
            inside &= np.abs(offset) <= self.size_mm[axis] / 2
        if not inside.any():
            raise DataError(
                f"{image.meta.get('filename_or_obj', 'image')}: the point {point!r} lies outside of the scan; give x, "
                "y, z in mm, RAS+ (DICOM and ITK are LPS: change the signs of x and y)."
            )
        return inside


def _content(array: np.ndarray) -> np.ndarray:
    """The box (i, j, k) of all values that differ from the corner's; everything where none does."""
    inside, differs = np.ones(array.shape, bool), array != array.flat[0]
    for axis in range(3):
        found = np.flatnonzero(differs.any(tuple(other for other in range(3) if other != axis)))
        if found.size:
            place: list[Any] = [None, None, None]
            place[axis] = slice(None)
            number = np.arange(array.shape[axis])
            inside &= ((number >= found[0]) & (number <= found[-1]))[tuple(place)]
    return inside


class NormalizeCropd(MapTransform):
    """Cut off the rarest intensities, bring the rest to mean 0 and deviation 1, and put the padding at 0.

    Args:
        keys: images (C, i, j, k).
        box_key: mask of the crop (1, i, j, k).

    Raises:
        DataError: if the crop has one intensity only.
    """

    def __init__(self, keys: KeysCollection, box_key: str = "box") -> None:
        super().__init__(keys)
        self.box_key = box_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give the item with normalised images, float32."""
        item = dict(data)
        inside = item[self.box_key][0].as_subclass(torch.Tensor) > 0
        for key in self.keys:
            image = item[key].float().clone()
            for channel in image:
                plain = channel.as_subclass(torch.Tensor)
                values = plain[inside].numpy()
                low, high = np.percentile(values, PERCENTILES)
                cut = values.clip(low, high)
                if high <= low or cut.std() == 0:
                    name = item[key].meta.get("filename_or_obj", "image")
                    raise DataError(f"{name}: the crop has one intensity only; give a T1 scan with tissue contrast.")
                scaled = (plain.clamp(float(low), float(high)) - float(cut.mean())) / float(cut.std())
                channel.copy_(scaled * inside)
            item[key] = image
        return item


class RandHippocampusd(Randomizable, MapTransform):
    """Sample a box of fixed size around the middle of a crop: shifted, turned, scaled, sheared, bent and mirrored.

    A left hippocampus is, nearly, a right one mirrored, so either may stand for the other.

    Args:
        image_key: image (1, i, j, k), 0 beyond its borders.
        label_key: label map (1, i, j, k).
        size: voxels of the box.
        strength: 1 for the ranges below, proportionally less or more; 0 leaves shift and mirror image.
        shift: largest shift along each axis in voxels.
        flip: probability of mirroring left and right (the first axis of a RAS volume).
    """

    ROTATION, GROWTH, SHEAR, ELASTIC = 0.26, 0.22, 0.08, 3.0  # radians, logarithm of the factor, share, voxels
    WARPED = 0.85  # share of the items that are turned, scaled and bent

    def __init__(
        self,
        image_key: str = "image",
        label_key: str = "label",
        size: Sequence[int] = (32, 48, 32),
        strength: float = 1.0,
        shift: float = 4.0,
        flip: float = 0.5,
    ) -> None:
        super().__init__([image_key, label_key])
        self.image_key, self.label_key = image_key, label_key
        self.size, self.strength, self.shift, self.flip = tuple(size), strength, shift, flip
        axes = [torch.arange(edge, dtype=torch.float32) - (edge - 1) / 2 for edge in self.size]
        self.offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"))  # (3, *size) voxels

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace image and label map by boxes, plain tensors (1, *size); other keys stay."""
        item = dict(data)
        image, label = (
            torch.Tensor(item[key].as_subclass(torch.Tensor)).float() for key in (self.image_key, self.label_key)
        )
        points = self._warped() if self.R.uniform() < self.WARPED * (self.strength > 0) else self.offsets
        middle = (torch.tensor(image.shape[1:]) - 1) / 2
        # whole voxels, so that what is not warped is not interpolated either
        start = (middle - (torch.tensor(self.size) - 1) / 2).floor() + (torch.tensor(self.size) - 1) / 2
        shift = torch.as_tensor(np.rint(self.R.uniform(-self.shift, self.shift, 3)), dtype=torch.float32)
        boxes = sample_at(image, label, points + (start + shift)[:, None, None, None], CLASSES)
        mirrored = self.R.uniform() < self.flip
        item[self.image_key], item[self.label_key] = (box.flip(1) if mirrored else box for box in boxes)
        return item

    def _warped(self) -> torch.Tensor:
        growth = float(np.exp(self.GROWTH * self.strength))
        ranges = (self.ROTATION * self.strength, (1 / growth, growth), self.SHEAR * self.strength)
        turned = torch.einsum("ab,bijk->aijk", random_linear_map(self.R, *ranges), self.offsets)
        return turned + random_bending(self.R, self.size, self.ELASTIC * self.strength)


def _prepare(label_keys: Sequence[str], spacing: float) -> list[Transform]:
    """Load, turn to RAS, resample where voxels differ by more than a tenth, cut out, pad and normalise."""
    moved = ["image", "box", *label_keys]
    modes = ["bilinear"] + ["nearest"] * (1 + len(label_keys))
    return [
        LoadVolumed("image", label_keys=list(label_keys), num_classes=CLASSES),
        HippocampusBoxd("image"),
        Orientationd(moved, axcodes="RAS", labels=None),
        Spacingd(moved, pixdim=spacing, min_pixdim=spacing * 0.9, max_pixdim=spacing * 1.1, mode=modes),
        CropForegroundd(moved, source_key="box", allow_smaller=True, k_divisible=MULTIPLE),
        NormalizeCropd("image"),
    ]


def hippocampus_augmentation(size: Sequence[int] = (32, 48, 32), strength: float = 1.0) -> Compose:
    """Random boxes of a prepared crop, with the looks of other scanners.

    Args:
        size: voxels of the box.
        strength: 1 for the augmentation that the shipped weights were trained with; 0 leaves shift and mirror image.

    Returns:
        a chain from keys ``image`` and ``label`` to boxes (1, *size).
    """
    prob = min(1.0, strength)
    looks: list[Transform] = [
        RandThickSlicesd("image", prob=0.15 * prob, factor=(1.2, 2.0)),
        RandGaussianSmoothd("image", (0.3, 0.9), (0.3, 0.9), (0.3, 0.9), prob=0.15 * prob),
        RandBiasFieldd("image", degree=2, coeff_range=(-0.1, 0.1), prob=0.2 * prob),
        RandAdjustContrastd("image", prob=0.4 * prob, gamma=(0.7, 1.45)),
        RandScaleIntensityd("image", factors=0.25, prob=0.5 * prob),
        RandShiftIntensityd("image", offsets=0.25, prob=0.5 * prob),
        RandGaussianNoised("image", prob=0.4 * prob, std=0.15),
    ]
    return Compose([RandHippocampusd(size=size, strength=strength), *(looks if prob else [])])


def hippocampus_training(
    size: Sequence[int] = (32, 48, 32), augmentation: str = "medium", spacing: float = 1.0
) -> Compose:
    """Training pipeline: paths of a T1 crop and its label map to one augmented box of each.

    Args:
        size: voxels of the box, multiples of eight.
        augmentation: ``none``, ``light``, ``medium`` or ``strong``: strength 0, 0.5, 1 or 1.5 of
            :func:`hippocampus_augmentation`.
        spacing: voxel size in mm.

    Raises:
        ConfigError: if the augmentation is unknown.
    """
    strength = STRENGTHS[require_name("Augmentation", augmentation, STRENGTHS)]
    kept = SelectItemsd(["image", "label"])
    return Compose([*_prepare(["label"], spacing), kept, hippocampus_augmentation(size, strength)]).flatten()


def hippocampus_validation(spacing: float = 1.0) -> Compose:
    """Validation pipeline: the whole crop, padded, with its label map; nothing random.

    Args:
        spacing: voxel size in mm.
    """
    return Compose(_prepare(["label"], spacing))


def hippocampus_inference(spacing: float = 1.0) -> Compose:
    """Inference pipeline: the whole crop, or the box around a point of a scan, padded and normalised.

    Args:
        spacing: voxel size in mm that the network was trained at.
    """
    return Compose(_prepare([], spacing))


def hippocampus_answer(preprocessing: Compose, keys: KeysCollection = "pred") -> Compose:
    """From the network's logits to a label map on the grid of the input file.

    Args:
        preprocessing: the chain of :func:`hippocampus_inference` that prepared the item.
        keys: logits (K, i, j, k).
    """
    return Compose(
        [
            Invertd(keys, transform=preprocessing, orig_keys="image", nearest_interp=False, to_tensor=True),
            AsDiscreted(keys, argmax=True),
        ]
    )
