"""Contrast that adapts to the place in an image."""

from __future__ import annotations

import numpy as np
from skimage.exposure import equalize_adapthist

from medresnet3d.transforms.keyed import Keyed
from medresnet3d.transforms.pictures import Array, PictureTransform


class CLAHE(PictureTransform):
    """Contrast-limited adaptive histogram equalisation, each channel by itself, in 2D and 3D.

    Zuiderveld, "Contrast limited adaptive histogram equalization", Graphics Gems IV, 1994; computed by scikit-image.

    Args:
        clip_limit: how far a bin of the histogram may rise, 0 to 1; larger gives more contrast and more noise.
        tiles: into how many parts each side is divided.

    Example:
        >>> CLAHE(clip_limit=0.02)(film).shape  # doctest: +SKIP
        torch.Size([1, 1024, 1024])
    """

    def __init__(self, clip_limit: float = 0.01, tiles: int = 8) -> None:
        self.clip_limit, self.tiles = clip_limit, tiles

    def change(self, picture: Array) -> Array:
        """See :class:`medresnet3d.transforms.pictures.PictureTransform`."""
        return np.stack([self._equalised(channel) for channel in picture])

    def _equalised(self, channel: Array) -> Array:
        low, high = float(channel.min()), float(channel.max())
        if low == high:
            return channel
        kernel = [max(1, size // self.tiles) for size in channel.shape]
        return equalize_adapthist(channel, kernel_size=kernel, clip_limit=self.clip_limit).astype(np.float32)


class CLAHEd(Keyed):
    """Dictionary version of :class:`CLAHE`."""

    array_class = CLAHE
