"""Chains for classifiers of mammograms: read as their maker shows them, frame, resize, vary, normalise."""

from __future__ import annotations

import torch
from monai.transforms import (
    Compose,
    EnsureTyped,
    NormalizeIntensityd,
    RandAdjustContrastd,
    RandScaleCropd,
    RepeatChanneld,
    Resized,
    SelectItemsd,
    Transform,
)

from medresnet3d.errors import ConfigError
from medresnet3d.transforms.batched import carried_out
from medresnet3d.transforms.load import LoadVolumed
from medresnet3d.transforms.mammography_frames import AsGreyd, BreastCropd, FindingCropd
from medresnet3d.transforms.picture_pipelines import CARRIED_ITEMS, picture_augmentation

#: What of a mammogram is taken.
FRAMES = ("breast", "finding", "whole")


def mammogram_training(
    size: int = 224,
    channels: int = 1,
    frame: str = "breast",
    margin: float = 0.25,
    augmentation: str = "medium",
    augmentation_mode: str = "per_sample",
    crop: float = 1.0,
    jitter: float = 0.1,
) -> Compose:
    r"""Mammograms for training a classifier.

    DICOM comes through its own window or look-up table, MONOCHROME1 turned to bright tissue, so that 12-bit films and
    pictures of 8 bits look alike; then each image is normalised by its own mean and deviation (global contrast
    normalisation, :math:`(x - \mu) / \sigma`), so that no range of values is assumed.

    Args:
        size: pixels along each side after resizing.
        channels: of the result; 3 repeats the grey, for ImageNet's weights.
        frame: ``breast`` (:class:`~medresnet3d.transforms.mammography_frames.BreastCrop`), ``finding``
            (:class:`~medresnet3d.transforms.mammography_frames.FindingCropd`) or ``whole``.
        margin: around the box of a finding.
        augmentation: see :func:`medresnet3d.transforms.picture_pipelines.picture_augmentation`.
        augmentation_mode: ``per_sample``, or ``batched`` for flips, turns and affine maps on the device, see
            :class:`medresnet3d.transforms.batched.AugmentedBatch`.
        crop: smallest share of each edge that a random crop keeps; 1: no crop.
        jitter: largest change of the exponent of a random gamma curve, unless ``augmentation`` is ``none``.

    Returns:
        a transform of items with ``image`` (path), ``label`` and perhaps ``roi`` or ``position`` to tensors
        (channels, size, size).

    Raises:
        ConfigError: if the frame, the augmentation or its mode is unknown, or the crop is not above 0 and at most 1.
    """
    if not 0 < crop <= 1:
        raise ConfigError(f"A random crop keeps a share of {crop} of each edge; give more than 0 and at most 1.")
    chain = picture_augmentation(augmentation)
    varied: list[Transform] = []
    if chain and crop < 1:
        # read a little larger, so that what is left has the detail of an image without crop
        varied = [
            RandScaleCropd("image", roi_scale=crop, max_roi_scale=1.0, random_size=True, random_center=True),
            Resized("image", spatial_size=(size, size), mode="bilinear", anti_aliasing=True),
        ]
    if chain and jitter:
        varied.append(RandAdjustContrastd("image", prob=0.8, gamma=(1 - jitter, 1 + jitter)))
    return Compose(
        [
            *_read(round(size / crop) if chain else size, frame, margin),
            SelectItemsd(CARRIED_ITEMS, allow_missing_keys=True),
            *varied,
            *_normalise(channels),
            *carried_out(chain, augmentation_mode),
            EnsureTyped("image", track_meta=False),
        ]
    ).flatten()


def mammogram_inference(size: int = 224, channels: int = 1, frame: str = "breast", margin: float = 0.25) -> Compose:
    """Mammograms for validation and inference, as in :func:`mammogram_training` with nothing random.

    Args:
        size: pixels along each side.
        channels: of the result.
        frame: see :func:`mammogram_training`.
        margin: around the box of a finding.

    Raises:
        ConfigError: if the frame is unknown.
    """
    return Compose(
        [
            *_read(size, frame, margin),
            SelectItemsd(CARRIED_ITEMS, allow_missing_keys=True),
            *_normalise(channels),
        ]
    ).flatten()


def _read(size: int, frame: str, margin: float) -> list[Transform]:
    if frame not in FRAMES:
        raise ConfigError(f"There is no frame {frame!r} of a mammogram; use {', '.join(FRAMES)}.")
    return [
        LoadVolumed("image", voi_lut=True),
        *([FindingCropd("image", margin=margin)] if frame == "finding" else []),
        AsGreyd("image"),
        *([BreastCropd("image")] if frame == "breast" else []),
        Resized("image", spatial_size=(size, size), mode="bilinear", anti_aliasing=True, dtype=torch.float32),
    ]


def _normalise(channels: int) -> list[Transform]:
    repeat = [RepeatChanneld("image", repeats=channels)] if channels > 1 else []
    return [NormalizeIntensityd("image"), *repeat]
