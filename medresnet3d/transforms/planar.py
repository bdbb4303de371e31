"""Plain colour pictures for a 2D network: one square of fixed size, ImageNet's normalisation, light augmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    MapTransform,
    NormalizeIntensityd,
    RandFlipd,
    RandRotate90d,
    RandScaleIntensityd,
    Resized,
)

from medresnet3d.errors import DataError
from medresnet3d.transforms.load import LoadVolumed

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
COLOURS = 3


class ToSquared(MapTransform):
    """From a picture as :class:`~medresnet3d.transforms.load.LoadVolumed` reads it to its central square, RGB, 0 to 1.

    (1 or 3, i, j, 1) becomes (3, n, n), n the shorter edge; a grey picture is repeated. White is 255, or 65535 where a
    value lies above that. i counts columns from the left, j rows from the top. The affine of a MetaTensor follows, so
    that a report can put what the network saw in its place.

    Args:
        keys: pictures.
        allow_missing_keys: skip keys that an item does not have.

    Raises:
        DataError: for a volume of several slices, another number of channels, or negative values.
    """

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Give a copy of ``data`` with its pictures changed."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = _square(torch.as_tensor(item[key]))
        return item


def _square(image: torch.Tensor) -> torch.Tensor:
    if image.ndim != 4 or image.shape[3] != 1:
        raise DataError(f"This bundle takes plain pictures, but the image has the shape {tuple(image.shape[1:])}.")
    if image.shape[0] not in (1, COLOURS) or float(image.min()) < 0:
        raise DataError(
            f"This bundle takes grey or colour pictures, but the image has {image.shape[0]} channels and values from "
            f"{float(image.min()):g}."
        )
    edge = min(image.shape[1:3])
    first, second = ((size - edge) // 2 for size in image.shape[1:3])
    values = image.as_tensor() if isinstance(image, MetaTensor) else image
    square = values[:, first : first + edge, second : second + edge, 0].float()
    white = 255.0 if float(values.max()) <= 255 else 65535.0
    rgb = (square / white).expand(COLOURS, -1, -1).contiguous()
    if not isinstance(image, MetaTensor):
        return rgb
    shift = torch.eye(4, dtype=image.affine.dtype)
    shift[:2, 3] = torch.tensor([first, second])
    return MetaTensor(rgb, affine=image.affine @ shift, meta={"filename_or_obj": image.meta.get("filename_or_obj", "")})


def picture_inference(
    size: int = 224, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> Compose:
    """From a picture file to what the network sees: central square, ``size`` pixels, normalised.

    Args:
        size: edge in pixels; a larger picture is smoothed before it is made smaller.
        mean: of each colour, on the scale of black 0 to white 1.
        std: standard deviation of each colour.
    """
    return Compose(_read(size, mean, std))


def picture_training(
    size: int = 224,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    augmentation: str = "light",
) -> Compose:
    """The same with random flips, right-angle turns and changes of each colour by up to a tenth.

    Args:
        size: see :func:`picture_inference`, as for the next two.
        mean: of each colour.
        std: of each colour.
        augmentation: ``"light"`` or ``"none"``.

    Raises:
        DataError: for another augmentation.
    """
    if augmentation not in ("light", "none"):
        raise DataError(f"augmentation {augmentation!r} is unknown; choose light or none.")
    read = _read(size, mean, std)
    if augmentation == "none":
        return Compose(read)
    random = [
        RandFlipd("image", prob=0.5, spatial_axis=0),
        RandFlipd("image", prob=0.5, spatial_axis=1),
        RandRotate90d("image", prob=0.75, max_k=3),
        RandScaleIntensityd("image", factors=0.1, prob=1.0, channel_wise=True),
    ]
    return Compose([*read[:-1], *random, read[-1]])


def _read(size: int, mean: Sequence[float], std: Sequence[float]) -> list[Any]:
    return [
        LoadVolumed("image"),
        ToSquared("image"),
        Resized("image", (size, size), mode="bilinear", anti_aliasing=True),
        NormalizeIntensityd("image", subtrahend=np.asarray(mean), divisor=np.asarray(std), channel_wise=True),
    ]
