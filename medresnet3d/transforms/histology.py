"""Stained tissue sections: one stain for all, and the images of several magnifications packed as channels."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.apps.pathology.transforms.stain.array import NormalizeHEStains
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureTyped, MapTransform, RandRotate90d, Resized, SelectItemsd, Transform

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.io import Volume
from medresnet3d.transforms.keyed import Keyed
from medresnet3d.transforms.load import LoadVolumed
from medresnet3d.transforms.picture_pipelines import CARRIED_ITEMS, AsColourd, picture_augmentation
from medresnet3d.transforms.pictures import COLOURS, Array, PictureTransform, require_colour
from medresnet3d.weights.normalisation import IMAGENET_DEVIATION, IMAGENET_MEAN

MAGNIFICATIONS = (40, 100, 200, 400)
#: Name of an image of BreaKHis, ``SOB_B_A-14-22549AB-40-001.png``: the number before the last is the magnification.
_NAMED = re.compile(r"-(\d+)-\d+\.\w+$")


class StainNormalisation(PictureTransform):
    """Give a section stained with haematoxylin and eosin the colours of a reference, by MONAI's ``NormalizeHEStains``.

    M. Macenko et al. A method for normalizing histology slides for quantitative analysis. ISBI 2009. An image in which
    two stains cannot be told apart (nearly no tissue) stays as it is.
    """

    def __init__(self) -> None:
        self.normalise = NormalizeHEStains()

    def change(self, picture: Array) -> Array:
        """See :class:`medresnet3d.transforms.pictures.PictureTransform`."""
        require_colour(picture, "stain normalisation")
        pixels = np.rint(255 * np.moveaxis(picture, 0, -1)).astype(np.uint8)
        try:
            found = self.normalise(pixels)
        except (ValueError, np.linalg.LinAlgError):
            return picture
        return np.moveaxis(found, -1, 0).astype(np.float32) / np.float32(255)


class StainNormalisationd(Keyed):
    """Dictionary version of :class:`StainNormalisation`."""

    array_class = StainNormalisation


class LoadMagnificationsd(MapTransform):
    """Read the images of one tissue at several magnifications, and pack them as channels, lowest first.

    An item holds one image or a list. Which magnification an image has is read from its name where all names tell
    (``...-200-013.png``, as in BreaKHis); otherwise there must be one for each magnification, in their order. The
    channels of a magnification without an image are zero.

    Args:
        keys: images.
        magnifications: in the order of the channels.
        size: pixels along i and j; images are squeezed into it.
        stain_normalisation: see :class:`StainNormalisation`; before resizing.

    Raises:
        ConfigError: if a magnification is named twice, or none is.
        DataError: while running, if images do not say which magnifications they are, or say the same.
    """

    def __init__(
        self,
        keys: str = "image",
        magnifications: Sequence[int] = MAGNIFICATIONS,
        size: Sequence[int] = (672, 448),
        stain_normalisation: bool = False,
    ) -> None:
        super().__init__(keys)
        self.magnifications = [int(each) for each in magnifications]
        if not self.magnifications or len(set(self.magnifications)) < len(self.magnifications):
            raise ConfigError(f"magnifications is {self.magnifications}; name each once, and at least one.")
        self.size = tuple(size)
        self.read = Compose(
            [
                LoadVolumed("image"),
                AsColourd("image"),
                *([StainNormalisationd("image")] if stain_normalisation else []),
                Resized("image", spatial_size=self.size, mode="bilinear", anti_aliasing=True, dtype=torch.float32),
            ]
        )

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Give a copy of ``data`` with (3 M, i, j) in place of the images, normalised by ImageNet's mean and deviation.

        Metadata are those of the lowest magnification that is there.
        """
        item = dict(data)
        for key in self.key_iterator(item):
            images = list(item[key]) if isinstance(item[key], (list, tuple)) else [item[key]]
            loaded = {
                place: self.read({"image": image, "warnings": item.get("warnings", "")})
                for place, image in sorted(zip(self._places(images), images, strict=True), key=lambda pair: pair[0])
            }
            first = next(iter(loaded.values()))["image"]
            blocks = [torch.zeros(COLOURS, *self.size) for _ in self.magnifications]
            for place, found in loaded.items():
                blocks[place] = _normalised(found["image"].as_tensor())
                item["warnings"] = found["warnings"]
            item[key] = MetaTensor(torch.cat(blocks), meta=first.meta)
        return item

    def _places(self, images: Sequence[Any]) -> list[int]:
        """Place of each image among the magnifications."""
        names = [_name(image) for image in images]
        told = [match and int(match.group(1)) for match in map(_NAMED.search, names)]
        known = ", ".join(str(each) for each in self.magnifications)
        if any(each not in self.magnifications for each in told):
            if len(images) == len(self.magnifications):
                return list(range(len(images)))
            raise DataError(
                f"{names[0]}: {len(images)} image(s) do not say which of the magnifications {known} they are; give one "
                "for each, in this order, or name them as in BreaKHis (...-200-013.png)."
            )
        if len(set(told)) < len(told):
            raise DataError(
                f"{names[0]}: two images of one case have the same magnification; give one of {known} each."
            )
        return [self.magnifications.index(int(each)) for each in told if each is not None]


def _name(image: Any) -> str:
    if isinstance(image, Volume):
        return str(image.source.name)
    return os.fspath(image) if isinstance(image, (str, os.PathLike)) else ""


def _normalised(image: torch.Tensor) -> torch.Tensor:
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    return (image - mean) / deviation


def histology_training(
    size: Sequence[int] = (672, 448),
    magnifications: Sequence[int] = MAGNIFICATIONS,
    stain_normalisation: bool = False,
    augmentation: str = "light",
) -> Compose:
    """Cases of several magnifications for training a classifier.

    Args:
        size: see :class:`LoadMagnificationsd`, as for the next two.
        magnifications: in the order of the channels.
        stain_normalisation: give all sections one stain.
        augmentation: see :func:`medresnet3d.transforms.picture_pipelines.picture_augmentation`; all magnifications of a
            case are changed alike, and right-angle turns are for square images alone.

    Returns:
        a transform of items with ``image`` (a path or a list of paths) and ``label`` to tensors (3 M, i, j).
    """
    chain = picture_augmentation(augmentation)
    if len(set(size)) > 1:
        chain = [each for each in chain if not isinstance(each, RandRotate90d)]
    return Compose([*_read(size, magnifications, stain_normalisation), *chain, EnsureTyped("image", track_meta=False)])


def histology_inference(
    size: Sequence[int] = (672, 448),
    magnifications: Sequence[int] = MAGNIFICATIONS,
    stain_normalisation: bool = False,
) -> Compose:
    """Cases for validation and inference, as in :func:`histology_training` with nothing random.

    Args:
        size: see :class:`LoadMagnificationsd`, as for the next two.
        magnifications: in the order of the channels.
        stain_normalisation: give all sections one stain.
    """
    return Compose(_read(size, magnifications, stain_normalisation))


def _read(size: Sequence[int], magnifications: Sequence[int], stain_normalisation: bool) -> list[Transform]:
    return [
        LoadMagnificationsd("image", magnifications, size, stain_normalisation),
        SelectItemsd(CARRIED_ITEMS, allow_missing_keys=True),
    ]
