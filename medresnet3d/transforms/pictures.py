"""What transforms of pictures share: any number type in and the same out, with black at 0 and white at 1 in between.

A picture is (C, i, j), or (C, i, j, 1) as :class:`medresnet3d.transforms.load.LoadVolumed` gives it: i counts columns
from the left and j rows from the top.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from monai.transforms import Transform
from monai.utils.type_conversion import convert_to_dst_type
from numpy.typing import NDArray

from medresnet3d.errors import DataError

Array = NDArray[np.float32]
COLOURS = 3


def to_numpy(image: Any) -> NDArray[Any]:
    """Values of an array, tensor or MetaTensor on any device."""
    return image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)


def white_of(values: NDArray[Any]) -> float:
    """The value of white: the largest of an unsigned type; else the first of 1, 255 and 65535 that nothing exceeds.

    Raises:
        DataError: if the values are not finite, negative or beyond 16 bits.
    """
    if values.dtype.kind in "ub":
        return 1.0 if values.dtype.kind == "b" else float(np.iinfo(values.dtype).max)
    low, high = float(values.min()), float(values.max())
    if not 0 <= low <= high <= 65535:  # also where one is NaN
        raise DataError(
            f"a picture has values from {low:g} to {high:g}; give 0 to 1, 0 to 255 or 0 to 65535, before normalisation."
        )
    return next(white for white in (1.0, 255.0, 65535.0) if high <= white)


def require_colour(picture: Array, what: str) -> None:
    """Refuse a picture (C, ...) that has not three channels.

    Raises:
        DataError: with ``what`` was to be done to it.
    """
    if picture.shape[0] != COLOURS:
        raise DataError(
            f"{what} needs a picture with red, green and blue, but this one has {picture.shape[0]} channel(s)."
        )


class PictureTransform(Transform, ABC):
    """Base of transforms that change the values of a picture.

    A subclass has ``change``, from (C, i, j) of float32 between 0 and 1 to the same; what leaves the range is cut off.
    """

    @abstractmethod
    def change(self, picture: Array) -> Array:
        """Change a picture, float32 between 0 (black) and 1 (white), without an axis of one slice."""

    def __call__(self, img: Any) -> Any:
        """Give the changed picture in the type, number format and scale of ``img``, metadata kept."""
        values = to_numpy(img)
        white = white_of(values)
        flat = values.ndim > 3 and values.shape[-1] == 1
        unit = (values[..., 0] if flat else values).astype(np.float32) / np.float32(white)
        changed = np.clip(self.change(unit), 0, 1) * np.float32(white)
        if values.dtype.kind in "iub":
            changed = np.rint(changed)
        changed = changed[..., None] if flat else changed
        return convert_to_dst_type(np.ascontiguousarray(changed.astype(values.dtype)), img)[0]
