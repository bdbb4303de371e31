"""Colour fundus photographs: the disc of the camera cut out, uneven light taken away, contrast raised."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import CropForeground, CropForegroundd, Resized, Transform
from numpy.typing import NDArray
from scipy import ndimage

from medresnet3d.transforms.contrast import CLAHE
from medresnet3d.transforms.keyed import Keyed
from medresnet3d.transforms.picture_pipelines import AsColourd
from medresnet3d.transforms.pictures import Array, PictureTransform, require_colour, to_numpy

GREEN = 1
ENOUGH = 600
"""Pixels along the shorter edge in which the border of the disc is looked for."""


def field_of_view(picture: Any, threshold: float = 0.06) -> NDArray[np.bool_]:
    """The lit disc of a fundus photograph: the largest part brighter than the frame, its holes filled.

    Args:
        picture: (C, i, j) or (C, i, j, 1), on any scale from black at 0.
        threshold: share of the 99th percentile of the brightest channel above which a pixel is lit.

    Returns:
        Mask of shape (i, j) or (i, j, 1); everything where nothing is lit.
    """
    bright = to_numpy(picture).astype(np.float32).max(0)
    flat = bright[..., 0] if bright.ndim == 3 else bright
    parts, count = ndimage.label(ndimage.binary_opening(flat > threshold * np.percentile(flat, 99)))
    if count == 0:
        return np.ones(bright.shape, dtype=bool)
    largest = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    return np.asarray(ndimage.binary_fill_holes(largest)).reshape(bright.shape)


class _Select:
    """What ``CropForeground`` asks: which pixels (1, ...) to keep; of a large picture some, which tell enough."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    def __call__(self, picture: torch.Tensor) -> torch.Tensor:
        shape = picture.shape[1:]
        step = max(1, min(shape[:2]) // ENOUGH)
        if step == 1:
            return torch.as_tensor(field_of_view(picture, self.threshold))[None]
        coarse = field_of_view(picture[:, ::step, ::step], self.threshold)
        return torch.as_tensor(coarse.repeat(step, 0).repeat(step, 1)[: shape[0], : shape[1]])[None]


class FieldOfViewCrop(CropForeground):
    """Cut a fundus photograph to the box of its lit disc; MONAI's ``CropForeground``, so it can be inverted.

    Args:
        threshold: see :func:`field_of_view`.
        margin: pixels kept beyond the disc.
        square: keep equal sides, with black where the camera has cut the disc off.

    Example:
        >>> FieldOfViewCrop()(photograph).shape  # doctest: +SKIP
        torch.Size([3, 3426, 2848])
    """

    def __init__(self, threshold: float = 0.06, margin: int = 0, square: bool = False) -> None:
        super().__init__(_Select(threshold), margin=margin, allow_smaller=True)
        self.square = square

    def compute_bounding_box(self, img: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Begin and end of the box on each axis, in pixels; it may reach beyond the picture."""
        low, high = (np.asarray(end, dtype=np.int64) for end in super().compute_bounding_box(img))
        if self.square:
            longest = int((high - low)[:2].max())
            low[:2] -= (longest - (high - low)[:2]) // 2
            high[:2] = low[:2] + longest
        return low, high


class FieldOfViewCropd(CropForegroundd):
    """Dictionary version of :class:`FieldOfViewCrop`; the box of one picture cuts all keys.

    Args:
        keys: pictures and masks of the same shape.
        source_key: the photograph whose disc is looked for.
        threshold: see :class:`FieldOfViewCrop`.
        margin: see there.
        square: see there.
        start_coord_key: where the begin of the box goes.
        end_coord_key: where its end goes.
        allow_missing_keys: skip keys that an item does not have.
    """

    def __init__(
        self,
        keys: KeysCollection,
        source_key: Hashable = "image",
        threshold: float = 0.06,
        margin: int = 0,
        square: bool = False,
        start_coord_key: str | None = "foreground_start_coord",
        end_coord_key: str | None = "foreground_end_coord",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(
            keys,
            str(source_key),
            start_coord_key=start_coord_key,
            end_coord_key=end_coord_key,
            allow_missing_keys=allow_missing_keys,
        )
        self.cropper = FieldOfViewCrop(threshold, margin, square)


class LocalAverageSubtraction(PictureTransform):
    """Take the local mean away, so that only what differs from its surroundings is left: :math:`½ + g (I - G_σ * I)`.

    Graham, "Kaggle diabetic retinopathy detection competition report", 2015. Within the disc of a fundus photograph the
    mean is taken over the disc alone, so that no bright rim appears; outside of it everything is ½. In other images (2D
    or 3D, e.g. the second input of VoxResNet) the mask is what is above black.

    Args:
        sigma: of the Gaussian, as a share of the shorter side.
        gain: g.
        rim: of the disc that is left out, as a share of the shorter side, since it is dim.
    """

    def __init__(self, sigma: float = 1 / 30, gain: float = 4.0, rim: float = 0.02) -> None:
        self.sigma, self.gain, self.rim = sigma, gain, rim

    def change(self, picture: Array) -> Array:
        """See :class:`medresnet3d.transforms.pictures.PictureTransform`."""
        inside = self._inside(picture)
        weight = inside.astype(np.float32)
        sigma = self.sigma * min(weight.shape)
        share = np.maximum(ndimage.gaussian_filter(weight, sigma), 1e-6)
        mean = np.stack([ndimage.gaussian_filter(channel * weight, sigma) for channel in picture]) / share
        return np.where(inside, 0.5 + self.gain * (picture - mean), 0.5).astype(np.float32)

    def _inside(self, picture: Array) -> NDArray[np.bool_]:
        if picture.ndim != 3:
            return np.asarray(picture.max(0) > 0)
        disc = np.pad(field_of_view(picture), 1)
        depth = ndimage.distance_transform_edt(disc)[1:-1, 1:-1]
        return np.asarray(depth > self.rim * min(depth.shape))


class LocalAverageSubtractiond(Keyed):
    """Dictionary version of :class:`LocalAverageSubtraction`."""

    array_class = LocalAverageSubtraction


class GreenChannelCLAHE(PictureTransform):
    """The green channel alone, where vessels and lesions stand out most, with CLAHE.

    Args:
        clip_limit: see :class:`medresnet3d.transforms.contrast.CLAHE`.
        tiles: see there.
        channels: how many copies are given, 3 for a network that was trained on colour.
    """

    def __init__(self, clip_limit: float = 0.01, tiles: int = 8, channels: int = 1) -> None:
        self.equalise, self.channels = CLAHE(clip_limit, tiles), channels

    def change(self, picture: Array) -> Array:
        """See :class:`medresnet3d.transforms.pictures.PictureTransform`."""
        require_colour(picture, "the green channel")
        return np.repeat(self.equalise.change(picture[GREEN : GREEN + 1]), self.channels, axis=0)


class GreenChannelCLAHEd(Keyed):
    """Dictionary version of :class:`GreenChannelCLAHE`."""

    array_class = GreenChannelCLAHE


def fundus_preparation(size: int = 224, local_average: bool = False) -> list[Transform]:
    """What a fundus photograph goes through before it is classified: ``prepare`` of the chains of pictures.

    Args:
        size: pixels along each side of what the network sees; the mean is taken at this size, which is what makes it
            affordable in photographs of ten megapixels.
        local_average: take the local mean away, see :class:`LocalAverageSubtraction`.

    Returns:
        dictionary transforms of ``image``: the square around the lit disc, in colour, ``size`` pixels wide.
    """
    chain: list[Transform] = [
        FieldOfViewCropd("image", square=True),
        AsColourd("image"),
        Resized("image", spatial_size=(size, size), mode="bilinear", anti_aliasing=True, dtype=torch.float32),
    ]
    return [*chain, LocalAverageSubtractiond("image")] if local_average else chain
