"""Lesions in fundus photographs: the camera's disc in a square, and random tiles of it with the looks of other cameras.

Keys: ``image``, a photograph (3, i, j); ``mask``, the path of a label map; ``label``, the mask of the lesions in it
(1, i, j), 0 or 1.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    Compose,
    EnsureTyped,
    MapTransform,
    NormalizeIntensityd,
    Randomizable,
    SelectItemsd,
    Transform,
)
from torch import Tensor
from torch.nn import functional

from medresnet3d.names import require_name
from medresnet3d.transforms.fundus import FieldOfViewCropd
from medresnet3d.transforms.load import LoadVolumed
from medresnet3d.transforms.picture_pipelines import AsColourd
from medresnet3d.transforms.prediction import KeepImaged
from medresnet3d.weights.normalisation import IMAGENET_DEVIATION, IMAGENET_MEAN

Values = Sequence[int] | Sequence[Sequence[int]] | None
STRENGTHS = {"none": 0.0, "light": 0.5, "medium": 1.0, "strong": 1.5}
"""Factors on the ranges of :class:`RandCameraLooksd`."""


class RandLesionTiled(Randomizable, MapTransform):
    """Sample a turned, scaled and mirrored square tile of a photograph and its mask; black beyond the borders.

    Args:
        image_key: photograph (C, i, j).
        label_key: mask (L, i, j); a tile's pixel belongs to it where more than half of it does. One that is unknown has
            -1 everywhere.
        size: pixels along each edge of the tile.
        lesion_share: share of the tiles whose middle is near a pixel of the mask, of one of several drawn anew each
            time, if it has any.
        scale: smallest and largest number of the photograph's pixels along one of the tile's.
    """

    def __init__(
        self,
        image_key: str = "image",
        label_key: str = "label",
        size: int = 320,
        lesion_share: float = 0.5,
        scale: tuple[float, float] = (0.7, 1.4),
    ) -> None:
        super().__init__([image_key, label_key])
        self.image_key, self.label_key = image_key, label_key
        self.size, self.lesion_share, self.scale = size, lesion_share, scale

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace photograph and mask by a tile of each, plain tensors (C, size, size)."""
        item = dict(data)
        image, label = (
            torch.as_tensor(item[key]).as_subclass(Tensor).float() for key in (self.image_key, self.label_key)
        )
        kind = int(self.R.randint(len(label))) if len(label) > 1 else 0
        matrix = self._matrix(label[kind] > 0)
        grid = functional.affine_grid(matrix[None], [1, 1, self.size, self.size], align_corners=False)
        tile = functional.grid_sample(torch.cat([image, label])[None], grid, mode="bilinear", align_corners=False)[0]
        item[self.image_key], mask = tile[: len(image)], (tile[len(image) :] > 0.5).float()
        item[self.label_key] = mask if float(label.min()) >= 0 else torch.full_like(mask, -1)
        return item

    def _matrix(self, mask: Tensor) -> Tensor:
        """From places of the tile to places of the photograph, both from -1 to 1, the last axis first."""
        shape = np.array(mask.shape, dtype=np.float64)
        middle = self.R.uniform(0.1, 0.9, 2) * shape
        if self.R.uniform() < self.lesion_share:
            places = mask.flatten().nonzero()[:, 0]
            if len(places):
                place = int(places[self.R.randint(len(places))])
                middle = np.array(divmod(place, mask.shape[1])) + self.R.uniform(-0.3, 0.3, 2) * self.size
        angle, scale = self.R.uniform(0, 2 * np.pi), np.exp(self.R.uniform(*np.log(self.scale)))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        turn = turn @ np.diag([1, self.R.choice([-1, 1])]) * scale * self.size / shape[::-1, None]
        return torch.tensor(np.concatenate([turn, (2 * middle / shape - 1)[::-1, None]], axis=1), dtype=torch.float32)


class RandCameraLooksd(Randomizable, MapTransform):
    """Change how a camera sees a fundus: light, colours, and now and then sharpness.

    Args:
        keys: photographs (3, i, j) between 0 and 1.
        strength: factor on all ranges; 0 changes nothing.
        blur: how often a photograph is made less sharp, as if it had fewer pixels.
    """

    GAMMA, GAIN, SATURATION, NOISE = 0.15, 0.1, 0.35, 0.02  # logarithms, logarithm, share, share of white

    def __init__(self, keys: KeysCollection, strength: float = 1.0, blur: float = 0.35) -> None:
        super().__init__(keys)
        self.strength, self.blur = strength, blur

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give the item with changed photographs, float32 between 0 and 1."""
        item = dict(data)
        for key in self.key_iterator(item) if self.strength else ():
            item[key] = self._changed(torch.as_tensor(item[key]).as_subclass(Tensor).float())
        return item

    def _changed(self, image: Tensor) -> Tensor:
        if self.R.uniform() < self.blur:
            small = functional.interpolate(
                image[None], scale_factor=self.R.uniform(0.4, 0.9), mode="bilinear", antialias=True
            )
            image = functional.interpolate(small, size=image.shape[1:], mode="bilinear")[0]
        strength = self.strength
        gamma = np.exp(strength * self.GAMMA * (self.R.normal(size=(3, 1, 1)) + self.R.normal()))
        gain = np.exp(strength * self.GAIN * self.R.normal(size=(3, 1, 1)))
        grey = image.mean(0, keepdim=True)
        image = grey + float(1 + strength * self.SATURATION * self.R.uniform(-1, 1)) * (image - grey)
        image = image.clamp(0, 1) ** torch.as_tensor(gamma).float() * torch.as_tensor(gain).float()
        noise = torch.as_tensor(self.R.normal(size=image.shape)).float()
        return (image + strength * self.NOISE * self.R.uniform() * noise).clamp(0, 1)


def normalise_colours() -> NormalizeIntensityd:
    """Colours from 0 to 1 with ImageNet's mean and deviation taken out, so that its weights can be started from."""
    mean, deviation = np.array(IMAGENET_MEAN), np.array(IMAGENET_DEVIATION)
    return NormalizeIntensityd("image", subtrahend=mean, divisor=deviation, channel_wise=True)


class SmoothlyResizedd(MapTransform):
    """Resize pictures to a square, as the mean of what each new pixel covers; the affine of a MetaTensor follows.

    No mean is beyond what it is taken of, not by rounding either: white stays 255. One channel after another in
    float32, so that a picture of 12 million pixels needs little memory.

    Args:
        keys: pictures (C, i, j) or (C, i, j, 1).
        size: pixels along each edge.
    """

    def __init__(self, keys: KeysCollection, size: int) -> None:
        super().__init__(keys)
        self.size = size

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give the item with pictures (C, size, size), float32."""
        item = dict(data)
        for key in self.key_iterator(item):
            image = item[key]
            flat = torch.as_tensor(image).as_subclass(Tensor)
            flat = flat[..., 0] if flat.ndim == 4 else flat
            shape = flat.shape[1:]
            channels = [
                functional.interpolate(
                    channel[None, None].float(), (self.size,) * 2, mode="bilinear", antialias=True
                ).clamp(float(channel.min()), float(channel.max()))
                for channel in flat
            ]
            resized = torch.cat(channels, 1)[0]
            if isinstance(image, MetaTensor):
                factors = [old / self.size for old in shape]
                scale = torch.eye(4, dtype=torch.float64)
                scale[0, 0], scale[1, 1] = factors
                scale[:2, 3] = torch.tensor([(factor - 1) / 2 for factor in factors], dtype=torch.float64)
                meta = {name: value for name, value in image.meta.items() if name != "affine"}
                resized = MetaTensor(resized, affine=image.affine.double() @ scale, meta=meta)
            item[key] = resized
        return item


class LesionMaskd(MapTransform):
    """Add the mask of the lesions in a label map (1, i, j, 1), float32, or one for each of several kinds.

    Args:
        keys: the label map.
        values: numbers of the lesions; ``None``: everything above 0. For several kinds the numbers of each.
        label_key: gets the mask, on the same grid.
        image_key: an item without a label map gets -1 everywhere on the grid of this one.
    """

    def __init__(
        self,
        keys: KeysCollection = "mask",
        values: Values = None,
        label_key: str = "label",
        image_key: str = "image",
    ) -> None:
        super().__init__(keys)
        self.values, self.label_key, self.image_key = values, label_key, image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give the item with the mask."""
        item = dict(data)
        if self.keys[0] not in item:
            item[self.label_key] = torch.full_like(item[self.image_key][:1], -1, dtype=torch.float32)
            return item
        found = item[self.keys[0]]
        kinds = [self.values] if self.values is None or isinstance(next(iter(self.values), 0), int) else self.values
        masks = [found > 0 if kind is None else torch.isin(found, torch.tensor(kind)) for kind in kinds]
        item[self.label_key] = torch.cat(masks).float()
        return item


def disc_in_a_square(size: int, with_mask: bool = False, values: Values = None) -> list[Transform]:
    """Read a photograph, and its mask if wanted; cut to a square around the camera's disc and resize.

    Args:
        size: pixels along each edge of the square.
        with_mask: whether items have a ``mask``, on the photograph's grid.
        values: see :class:`LesionMaskd`.

    Returns:
        transforms from paths to ``image`` (3, size, size) between 0 and 1, and ``label`` (L, size, size).
    """
    if not with_mask:
        chain: list[Transform] = [LoadVolumed("image"), FieldOfViewCropd("image", square=True)]
        return [*chain, SmoothlyResizedd("image", size), AsColourd("image")]
    keys = ["image", "label"]
    return [
        LoadVolumed("image", label_keys=["mask"], allow_missing_keys=True),
        LesionMaskd("mask", values),
        FieldOfViewCropd(keys, source_key="image", square=True),
        SmoothlyResizedd(keys, size),
        AsColourd("image"),
    ]


def lesion_training(size: int = 896, tile: int = 320, augmentation: str = "medium", values: Values = None) -> Compose:
    """Training pipeline: paths of a photograph and its mask to an augmented tile of each.

    Args:
        size: see :func:`disc_in_a_square`.
        tile: pixels along each edge of the tile.
        augmentation: a key of :data:`STRENGTHS`, of the change of looks; tiles are turned, scaled and mirrored anyway.
        values: see :class:`LesionMaskd`.

    Returns:
        a transform of items with ``image`` and ``mask`` to ``image`` (3, tile, tile) and ``label`` (L, tile, tile).

    Raises:
        ConfigError: if the augmentation is unknown.
    """
    strength = STRENGTHS[require_name("Augmentation", augmentation, STRENGTHS)]
    keys = ["image", "label"]
    return Compose(
        [
            *disc_in_a_square(size, True, values),
            SelectItemsd(keys),
            EnsureTyped(keys, track_meta=False),
            RandLesionTiled(size=tile),
            RandCameraLooksd("image", strength),
            normalise_colours(),
        ]
    ).flatten()


def exudate_validation(size: int = 896, values: Values = None) -> Compose:
    """Validation pipeline: a whole photograph and its mask, nothing random.

    Args:
        size: see :func:`disc_in_a_square`.
        values: see :class:`LesionMaskd`.
    """
    binary = AsDiscreted("label", threshold=0.5)
    return Compose([*disc_in_a_square(size, True, values), binary, normalise_colours()]).flatten()


def exudate_inference(size: int = 896) -> Compose:
    """Inference pipeline: a whole photograph.

    Args:
        size: see :func:`disc_in_a_square`.
    """
    return Compose([*disc_in_a_square(size), normalise_colours()]).flatten()


class OnPictured(MapTransform):
    """Bring dense numbers of a prepared photograph back onto the grid of its file.

    Args:
        keys: (K, n, m), on the grid of the prepared photograph.
        image_key: the prepared photograph, a MetaTensor that knows where it lies.
        outside: value of what the network did not see.
    """

    def __init__(self, keys: KeysCollection = "pred", image_key: str = "image", outside: float = 0.0) -> None:
        super().__init__(keys)
        self.image_key, self.outside = image_key, outside

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give the item with (K, i, j, 1), MetaTensors on the file's grid."""
        item = dict(data)
        seen: MetaTensor = item[self.image_key]
        affine = torch.as_tensor(seen.meta["original_affine"], dtype=torch.float64)
        shape = [int(size) for size in seen.meta["spatial_shape"][:2]]
        to_seen = torch.linalg.solve(seen.affine.double(), affine)
        sizes = seen.shape[1:]
        places = []
        for axis in range(2):  # a photograph is never turned: each axis of the file is one of the prepared one
            place = to_seen[axis, axis] * torch.arange(shape[axis]) + to_seen[axis, 3]
            places.append((2 * place + 1) / sizes[axis] - 1)
        first, second = torch.meshgrid(*places, indexing="ij")
        grid = torch.stack([second, first], -1).float()[None]  # grid_sample counts the last axis first
        for key in self.key_iterator(item):
            dense = torch.as_tensor(item[key]).as_subclass(Tensor).float() - self.outside
            there = grid.to(dense.device)
            moved = functional.grid_sample(dense[None], there, mode="bilinear", align_corners=False)[0]
            meta = {key: value for key, value in seen.meta.items() if key != "affine"}
            item[key] = MetaTensor(moved[..., None] + self.outside, affine=affine, meta=meta)
        return item


def heat_map_answer(threshold: float = 0.5) -> Compose:
    """From dense log-probabilities of background and lesion to a label map on the grid of the file.

    The probability of the lesion is kept as a further image, ``probability``.

    Args:
        threshold: probability from which on a pixel belongs to the lesion.
    """
    softmax = Activationsd("pred", softmax=True)
    return Compose([softmax, LastChanneld("pred"), *_on_the_file(threshold)])


def exudate_answer(threshold: float = 0.5) -> Compose:
    """From dense logits of a lesion to a label map on the grid of the file; otherwise as :func:`heat_map_answer`.

    Args:
        threshold: probability from which on a pixel belongs to the lesion.
    """
    return Compose([Activationsd("pred", sigmoid=True), *_on_the_file(threshold)])


def _on_the_file(threshold: float) -> list[Transform]:
    return [OnPictured("pred"), KeepImaged("pred", "probability"), AsDiscreted("pred", threshold=threshold)]


class LastChanneld(MapTransform):
    """The last channel (1, ...) of dense maps (K, ...)."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give the item with one channel."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = item[key][-1:]
        return item
