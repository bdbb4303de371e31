"""Chains for classifiers of single pictures with ImageNet weights: read, prepare, resize, vary, normalise."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    EnsureTyped,
    MapTransform,
    NormalizeIntensityd,
    RandAffined,
    RandFlipd,
    RandRotate90d,
    Resized,
    SelectItemsd,
    Transform,
)
from monai.utils.type_conversion import convert_to_dst_type

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.transforms.batched import carried_out
from medresnet3d.transforms.channel_packing import PackVersionsd, RandPackVersionsd
from medresnet3d.transforms.clinical import CLINICAL, NoteClinical
from medresnet3d.transforms.clinical_evidence import Evidence
from medresnet3d.transforms.colour_augmentation import RandColourMapd
from medresnet3d.transforms.keyed import Keyed
from medresnet3d.transforms.load import LoadVolumed
from medresnet3d.transforms.pictures import COLOURS, to_numpy, white_of
from medresnet3d.weights.normalisation import IMAGENET_DEVIATION, IMAGENET_MEAN

#: What of a picture is taken.
FRAMES = ("whole", "square")
#: Strengths of the augmentation.
STRENGTHS = ("none", "light", "medium", "strong")
CARRIED_ITEMS = ("image", "label", "case", "path", "warnings", CLINICAL)
Versions = Sequence[Callable[[Any], Any] | None]


class AsColour(Transform):
    """Any picture, grey or colour, as float32 (3, i, j) between 0 (black) and 1 (white).

    Raises:
        DataError: for a volume of several slices, another number of channels, or values that are no picture's.
    """

    def __call__(self, img: Any) -> Any:
        """Give (3, i, j) of a picture (C, i, j) or (C, i, j, 1) with one or three channels."""
        channels, *shape = img.shape
        if channels not in (1, COLOURS) or len(shape) not in (2, 3) or shape[2:] not in ([], [1]):
            raise DataError(
                f"This takes grey or colour pictures, but the image has {channels} channel(s) of {tuple(shape)}."
            )
        flat = img[..., 0] if img.ndim == 4 else img
        values = to_numpy(flat)
        unit = values.astype(np.float32) / np.float32(white_of(values))
        return convert_to_dst_type(np.repeat(unit, COLOURS // len(unit), axis=0), flat, dtype=np.float32)[0]


class AsColourd(Keyed):
    """Dictionary version of :class:`AsColour`."""

    array_class = AsColour


class CentralSquared(MapTransform):
    """The central square of pictures (C, i, j) or (C, i, j, 1); the affine of a MetaTensor follows.

    Args:
        keys: pictures.
        allow_missing_keys: skip keys that an item does not have.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of ``data`` with (C, n, n) or (C, n, n, 1), n the shorter edge."""
        item = dict(data)
        for key in self.key_iterator(item):
            image = item[key]
            edge = min(image.shape[1:3])
            first, second = ((size - edge) // 2 for size in image.shape[1:3])
            item[key] = image[:, first : first + edge, second : second + edge]
            if isinstance(image, MetaTensor):
                shift = torch.eye(4, dtype=image.affine.dtype)
                shift[:2, 3] = torch.tensor([first, second])
                item[key].affine = image.affine @ shift
        return item


def picture_augmentation(strength: str = "light") -> list[MapTransform]:
    """Random changes of place of a picture under ``image``.

    Args:
        strength: ``none``; ``light`` (flips, right-angle turns); ``medium`` and ``strong`` (turns by any angle, a tenth
            or a fifth of scaling and half of that of shear, in half or all of the pictures).

    Raises:
        ConfigError: if the strength is unknown.
    """
    if strength not in STRENGTHS:
        raise ConfigError(f"There is no augmentation {strength!r}; use {', '.join(STRENGTHS)}.")
    level = STRENGTHS.index(strength)
    chain: list[MapTransform] = []
    if level > 0:
        chain = [RandFlipd("image", prob=0.5, spatial_axis=axis) for axis in (0, 1)]
        chain.append(RandRotate90d("image", prob=0.5))
    if level > 1:
        size = 0.1 * (level - 1)
        chain.append(
            RandAffined(
                "image",
                prob=0.5 * (level - 1),
                rotate_range=np.pi,
                scale_range=(size, size),
                shear_range=(size / 2, size / 2),
                mode="bilinear",
                padding_mode="reflection",
            )
        )
    return chain


def picture_training(
    size: int = 224,
    augmentation: str = "light",
    augmentation_mode: str = "per_sample",
    jitter: float = 0.1,
    prepare: Sequence[Transform] = (),
    frame: str = "whole",
    *,
    tint: float = 0.0,
    variations: Sequence[Transform] = (),
    versions: Versions = (),
    covers: Versions = (),
) -> Compose:
    """Pictures for training a classifier.

    Args:
        size: pixels along each side after resizing; 224, or 299 for Inception and Xception.
        augmentation: see :func:`picture_augmentation`.
        augmentation_mode: ``per_sample``, or ``batched`` for all at once on the device, see
            :class:`medresnet3d.transforms.batched.AugmentedBatch`.
        jitter: largest change of brightness, contrast and saturation, unless ``augmentation`` is ``none``.
        tint: the same of red, green and blue, each by itself: light of another colour.
        prepare: dictionary transforms of the modality, on pictures as they were read (hairs out, CLAHE, crops, ...).
        frame: ``whole`` squeezes the whole picture into the square; ``square`` takes the central one.
        variations: further random dictionary transforms of the values, on float32 (3, size, size) from 0 to 1; they too
            are left out if ``augmentation`` is ``none``.
        versions: transforms of a resized picture, without randomness, that are packed as channels
            (:class:`medresnet3d.transforms.channel_packing.PackVersionsd`); none: the picture itself.
        covers: random ones, in training alone: a picture is packed as often as there are covers, each time as one of
            them leaves it (:mod:`medresnet3d.transforms.dermoscopy_masking`), one for each member of an ensemble.

    Returns:
        a transform of items with ``image`` (path) and ``label`` to tensors (3, size, size), with versions or covers
        (3 * versions * covers, size, size).

    Raises:
        ConfigError: if the augmentation, its mode or the frame is unknown.
    """
    chain = picture_augmentation(augmentation)
    if chain and (jitter or tint):
        colours = (0.8, jitter, jitter, jitter, tint, IMAGENET_MEAN, IMAGENET_DEVIATION)
        chain.append(RandColourMapd("image", *colours))
    return Compose(
        [
            *_read(size, prepare, frame, versions),
            SelectItemsd(CARRIED_ITEMS, allow_missing_keys=True),
            *(variations if chain else ()),
            *([RandPackVersionsd("image", covers)] if covers else []),
            _normalise(max(1, len(versions)) * max(1, len(covers))),
            EnsureTyped("image", track_meta=False),
            *carried_out(chain, augmentation_mode),
            EnsureTyped("image", track_meta=False),
        ]
    ).flatten()


def picture_inference(
    size: int = 224,
    prepare: Sequence[Transform] = (),
    frame: str = "whole",
    versions: Versions = (),
    clinical: Evidence | None = None,
) -> Compose:
    """Pictures for validation and inference, as in :func:`picture_training` with nothing random.

    Args:
        size: pixels along each side.
        prepare: dictionary transforms of the modality.
        frame: see :func:`picture_training`.
        versions: see there.
        clinical: evidence beside the picture, which :class:`medresnet3d.transforms.clinical.WeighClinicald` weighs.

    Raises:
        ConfigError: if the frame is unknown.
    """
    return Compose(
        [
            *([NoteClinical(clinical)] if clinical else ()),
            *_read(size, prepare, frame, versions),
            SelectItemsd(CARRIED_ITEMS, allow_missing_keys=True),
            _normalise(max(1, len(versions))),
        ]
    ).flatten()


def _read(size: int, prepare: Sequence[Transform], frame: str, versions: Versions) -> list[Transform]:
    if frame not in FRAMES:
        raise ConfigError(f"There is no frame {frame!r}; use {' or '.join(FRAMES)}.")
    return [
        LoadVolumed("image"),
        *prepare,
        *([CentralSquared("image")] if frame == "square" else []),
        AsColourd("image"),
        Resized("image", spatial_size=(size, size), mode="bilinear", anti_aliasing=True, dtype=torch.float32),
        *([PackVersionsd("image", versions)] if versions else []),
    ]


def _normalise(pictures: int) -> NormalizeIntensityd:
    mean, deviation = (np.tile(values, pictures) for values in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    return NormalizeIntensityd("image", subtrahend=mean, divisor=deviation, channel_wise=True)
