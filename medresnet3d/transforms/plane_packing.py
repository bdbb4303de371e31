"""Planes of a volume as channels of a 2D network: where each of them lies, kept with the image, and the way back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

PLACES, SHAPE = "plane_places", "plane_volume_shape"
"""Names in the metadata: (channels, 2), axis and index of each plane; and the volume's (3,)."""


def pack_planes(planes: torch.Tensor, volume: torch.Tensor, places: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Let planes say where in a volume they lie.

    Args:
        planes: (channels, p, q), the volume's axes in their order without the one that the plane is cut across.
        volume: (1, i, j, k) that they were cut from; where it is a MetaTensor, the planes keep its affine.
        places: of each plane, the axis (0, 1, 2) that it is cut across, and its index there.

    Returns:
        the planes, a MetaTensor where the volume is one.
    """
    if not isinstance(volume, MetaTensor):
        return planes
    own = {PLACES: np.array(places), SHAPE: np.array(volume.shape[1:])}
    return MetaTensor(planes, meta=dict(volume.meta) | own)


def are_planes(meta: Mapping[str, Any]) -> bool:
    """Whether the channels of an image with these metadata are planes of a volume."""
    return PLACES in meta


def unpack_planes(planes: NDArray[Any], meta: Mapping[str, Any]) -> NDArray[Any]:
    """Put planes back where they lie: the larger value where they cross, 0 where there is none.

    Args:
        planes: (channels, p, q), such as the image itself or a value for each of its pixels.
        meta: of the image.

    Returns:
        (i, j, k).
    """
    volume = np.full(tuple(np.asarray(meta[SHAPE]).tolist()), -np.inf, dtype=np.result_type(planes, np.float32))
    for plane, (axis, index) in zip(planes, np.asarray(meta[PLACES]).tolist(), strict=True):
        there = np.moveaxis(volume, axis, 0)[index]
        np.maximum(there, plane, out=there)
    return np.where(np.isneginf(volume), 0, volume)
