"""Detection: from the boxes of a manifest to what a network learns, and to what a validation compares with.

As in :mod:`medresnet3d.transforms.detection` everything is in millimetres, RAS+; of a picture a millimetre is a pixel.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.io.detections import FINDING_COLUMNS, box_corners, findings_table
from medresnet3d.transforms.detection import in_space, matrix_of

KINDS = ("sphere", "heat")
HEAT_REACH = 3.0


class BoxesToMapd(MapTransform):
    """Draw the findings of a manifest on the grid of an image: what a dense detection network learns.

    A finding is the ellipsoid (in 2D the ellipse) that its box encloses. ``"sphere"`` is 1 in it and 0 elsewhere, and
    1 at least at the voxel nearest to its centre; ``"heat"`` is a Gaussian around its centre, exp(-r^2 / (2 spread^2))
    where r is 1 on the surface, 1 at the centre's voxel, 0 from three times the spread on. Where findings overlap the
    larger value counts.

    Patches around findings and around nothing come from MONAI's ``RandCropByPosNegLabeld`` with this map as its label:
    all that is above 0 is positive, and a scan without a finding gives negatives.

    Args:
        keys: boxes, lists as in a manifest; a missing key or ``None`` draws nothing.
        reference_key: the image, a MetaTensor (C, i, j, k) or (C, i, j).
        target_key: where the map goes, (1, i, j, k) or (1, i, j), float32, on the image's grid.
        kind: ``"sphere"`` or ``"heat"``.
        spread: standard deviation of the heat as a share of the radius.

    Raises:
        ConfigError: for another kind or a spread that is not positive.
        DataError: from :func:`medresnet3d.io.detections.box_corners`, or if the image has no affine.

    Example:
        >>> draw = BoxesToMapd(kind="sphere")
        >>> draw({"image": scan, "boxes": [[-8, -4, 10, 0, 4, 18]]})["label"].sum()  # doctest: +SKIP
        tensor(268.)
    """

    def __init__(
        self,
        keys: KeysCollection = "boxes",
        reference_key: str = "image",
        target_key: str = "label",
        kind: str = "sphere",
        spread: float = 0.5,
    ) -> None:
        super().__init__(keys, allow_missing_keys=True)
        if kind not in KINDS:
            raise ConfigError(f"kind is {kind!r}; choose {' or '.join(KINDS)}.")
        if spread <= 0:
            raise ConfigError(f"spread is {spread}; give a share of the radius above 0.")
        self.reference_key = reference_key
        self.target_key = target_key
        self.kind = kind
        self.spread = spread

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of ``data`` with the map added."""
        item = dict(data)
        image = item[self.reference_key]
        if not isinstance(image, MetaTensor):
            raise DataError(f"`{self.reference_key}` has no affine to draw boxes by; load it with LoadVolumed.")
        drawn = np.zeros(tuple(image.shape[1:]), dtype=np.float32)
        matrix = matrix_of(image.affine)
        for key in self.key_iterator(item):
            for low, high in box_corners(item[key] or ()):
                self._draw(drawn, matrix, (low + high) / 2, (high - low) / 2)
        item[self.target_key] = MetaTensor(torch.from_numpy(drawn[None]), affine=image.affine.clone())
        return item

    def _draw(
        self,
        drawn: NDArray[np.float32],
        matrix: NDArray[np.float64],
        centre: NDArray[np.float64],
        half: NDArray[np.float64],
    ) -> None:
        """Draw one finding; what lies outside of the grid is left out."""
        reach = half * (max(1.0, HEAT_REACH * self.spread) if self.kind == "heat" else 1.0)
        to_voxels: NDArray[np.float64] = np.linalg.inv(matrix).astype(np.float64)
        box = _voxels_around(to_voxels, centre, reach, drawn.shape)
        if box is None:
            return
        offset = apply_affine(matrix, in_space(_indices(box))) - centre
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled = np.where(half > 0, offset / half, 0.0)  # a flat box has no thickness to leave
        squared = (scaled**2).sum(axis=1).reshape([side.stop - side.start for side in box])
        nearest = np.unravel_index(int((offset**2).sum(axis=1).argmin()), squared.shape)
        if self.kind == "sphere":
            values = (squared <= 1).astype(np.float32)
        else:
            values = np.exp(-squared / (2 * self.spread**2)).astype(np.float32)
            values[squared >= (HEAT_REACH * self.spread) ** 2] = 0
        if _holds(drawn.shape, to_voxels, centre):
            values[nearest] = 1
        np.maximum(drawn[box], values, out=drawn[box])


def _indices(box: tuple[slice, ...]) -> NDArray[np.float64]:
    """Give the indices of all voxels of a box, (N, dims)."""
    grids = np.meshgrid(*(np.arange(side.start, side.stop) for side in box), indexing="ij")
    return np.stack([grid.ravel() for grid in grids], axis=1).astype(np.float64)


def _voxels_around(
    to_voxels: NDArray[np.float64], centre: NDArray[np.float64], reach: NDArray[np.float64], shape: tuple[int, ...]
) -> tuple[slice, ...] | None:
    """Give the voxels within a distance (mm along x, y, z) of a point, ``None`` where the grid has none of them."""
    corners = centre + reach * (2 * np.array(list(np.ndindex(2, 2, 2))) - 1)
    places = apply_affine(to_voxels, corners)[:, : len(shape)]
    start = np.maximum(np.floor(places.min(axis=0)), 0).astype(int)
    stop = np.minimum(np.ceil(places.max(axis=0)) + 1, shape).astype(int)
    if (stop <= start).any():
        return None
    return tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))


def _holds(shape: tuple[int, ...], to_voxels: NDArray[np.float64], point: NDArray[np.float64]) -> bool:
    """Whether a point (mm) lies in the grid."""
    place = apply_affine(to_voxels, point)[: len(shape)]
    return bool(((place > -0.5) & (place < np.array(shape) - 0.5)).all())


class FindingsFromBoxesd(MapTransform):
    """Turn the boxes of a manifest into the tensor that detections are compared with in a validation.

    The tensor has the same shape for every scan, so that batches can be made; rows that no finding needs are NaN.

    Args:
        keys: boxes of the findings; a missing key is a scan without any.
        excluded_key: boxes of findings that count neither as hits nor as false alarms; may be missing.
        findings_key: where the tensor goes, (most, 5), float32, columns as
            :data:`medresnet3d.io.detections.FINDING_COLUMNS`.
        most: number of rows.

    Raises:
        DataError: if a scan has more findings, or from :func:`medresnet3d.io.detections.box_corners`.
    """

    def __init__(
        self,
        keys: KeysCollection = "boxes",
        excluded_key: str = "excluded_boxes",
        findings_key: str = "label",
        most: int = 256,
    ) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.excluded_key = excluded_key
        self.findings_key = findings_key
        self.most = most

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of ``data`` with the findings added."""
        item = dict(data)
        boxes = [box for key in self.key_iterator(item) for box in item[key] or ()]
        found = findings_table(boxes, item.get(self.excluded_key) or ())
        if len(found) > self.most:
            raise DataError(f"{item.get('case', 'a scan')} has {len(found)} findings, but `most` is {self.most}.")
        padded = torch.full((self.most, len(FINDING_COLUMNS)), torch.nan)
        padded[: len(found)] = torch.from_numpy(found)
        item[self.findings_key] = padded
        return item
