"""What of a mammogram a network sees: one finding, or the breast without what lies around it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import BorderPad, Flip, MapTransform, SpatialCrop, Transform
from monai.utils.type_conversion import convert_to_dst_type
from numpy.typing import NDArray

from medresnet3d.errors import AmbiguousInputError, ConfigError, DataError
from medresnet3d.transforms.keyed import Keyed
from medresnet3d.transforms.mammography import SEARCHED_SIDE, SIDES, breast_mask, breast_side
from medresnet3d.transforms.pictures import COLOURS, to_numpy


class AsGrey(Transform):
    """A grey picture, or one whose three channels say the same, as float32 (1, i, j), its values unchanged.

    Raises:
        DataError: for a volume of several slices, or another number of channels.
    """

    def __call__(self, img: Any) -> Any:
        """Give (1, i, j) of a picture (C, i, j) or (C, i, j, 1): the mean of its channels."""
        channels, *shape = img.shape
        if channels not in (1, COLOURS) or len(shape) not in (2, 3) or shape[2:] not in ([], [1]):
            raise DataError(f"This takes one mammogram, but the image has {channels} channel(s) of {tuple(shape)}.")
        flat = img[..., 0] if img.ndim == 4 else img
        grey = to_numpy(flat).astype(np.float32).mean(0, keepdims=True)
        return convert_to_dst_type(grey, flat, dtype=np.float32)[0]


class AsGreyd(Keyed):
    """Dictionary version of :class:`AsGrey`."""

    array_class = AsGrey


class FindingCropd(MapTransform):
    """The square around a finding: around its box with a margin, or of so many millimetres around a point.

    The box comes first, then the point; a picture that has neither is the finding already, unless it is as large as a
    whole film. What lies beyond the film has its darkest value.

    Args:
        keys: pictures (C, i, j, 1) with an affine, as :class:`~medresnet3d.transforms.load.LoadVolumed` gives them.
        margin: on each side, as a share of the box's longer edge.
        point_size_mm: edge of the square around a point.
        film_edge: pixels of the shorter edge from which a picture is taken for a whole film.
        box_key: where the item has its box: x0, y0, x1, y1 in pixels (column, row), as the manifest has it.
        position_key: where the item has its point, [x, y, z] in mm, RAS+.
        allow_missing_keys: skip keys that an item does not have.

    Raises:
        ConfigError: if the margin is negative or a size is not positive.
        DataError: if a box or a point is none, or lies outside of the picture.
        AmbiguousInputError: for a whole film with neither.
    """

    def __init__(
        self,
        keys: KeysCollection,
        margin: float = 0.25,
        point_size_mm: float = 40.0,
        film_edge: int = 1000,
        box_key: str = "roi",
        position_key: str = "position",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if margin < 0 or point_size_mm <= 0 or film_edge <= 0:
            raise ConfigError(
                f"A finding is cut out with margin {margin}, {point_size_mm} mm and films from {film_edge} pixels; "
                "give a margin of 0 or more, and sizes above 0."
            )
        self.margin, self.point_size_mm, self.film_edge = margin, point_size_mm, film_edge
        self.box_key, self.position_key = box_key, position_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of the item with its pictures cut out, (C, n, n, 1); affines follow."""
        item = dict(data)
        for key in self.key_iterator(item):
            image = item[key]
            name = str(image.meta.get("filename_or_obj", "image"))
            if item.get(self.box_key) is not None:
                low, high = self._around_box(item[self.box_key], image, name)
            elif item.get(self.position_key) is not None:
                low, high = self._around_point(item[self.position_key], image, name)
            elif min(image.shape[1:3]) >= self.film_edge:
                raise AmbiguousInputError(
                    f"{name}: has {image.shape[1]} x {image.shape[2]} pixels, a whole film, but this bundle classifies "
                    f"one finding: give its box as `{self.box_key}` (x0, y0, x1, y1 in pixels) in a manifest, its "
                    "point with --at x,y,z (mm, RAS+), or the finding cut out."
                )
            else:
                continue
            item[key] = _cut(image, low, high)
        return item

    def _around_box(self, given: Any, image: MetaTensor, name: str) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        box = _numbers(given, 4)
        size = np.array(image.shape[1:3])
        if box is None or (box[2:] <= box[:2]).any() or (box[:2] >= size).any() or (box[2:] <= 0).any():
            raise DataError(
                f"{name}: `{self.box_key}` is {given!r}; give x0, y0, x1, y1 in pixels (column, row) of a box on the "
                f"picture, which has {size[0]} columns and {size[1]} rows."
            )
        edge = float((box[2:] - box[:2]).max()) * (1 + 2 * self.margin)
        return _square((box[:2] + box[2:]) / 2, np.full(2, edge))

    def _around_point(self, given: Any, image: MetaTensor, name: str) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        point = _numbers(given, 3)
        affine = np.asarray(image.affine, dtype=np.float64)
        size = np.array(image.shape[1:3])
        pixel = None if point is None else np.linalg.solve(affine[:3, :3], point - affine[:3, 3])[:2]
        if pixel is None or (pixel < -0.5).any() or (pixel > size - 0.5).any():
            raise DataError(
                f"{name}: `{self.position_key}` is {given!r}; give x, y, z in mm (RAS+) of a point on the picture."
            )
        edges = self.point_size_mm / np.linalg.norm(affine[:3, :2], axis=0)
        return _square(np.asarray(pixel + 0.5, np.float64), np.asarray(edges, np.float64))


def _numbers(given: Any, count: int) -> NDArray[np.float64] | None:
    """Finite numbers (count,), or ``None`` where it is something else."""
    try:
        values = np.asarray(given, dtype=np.float64).reshape(count)
    except (TypeError, ValueError):
        return None
    return values if np.isfinite(values).all() else None


def _square(middle: NDArray[np.float64], edges: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    sizes = np.maximum(np.rint(edges), 1)
    low = np.rint(middle - sizes / 2)
    return low.astype(np.intp), (low + sizes).astype(np.intp)


def _cut(image: MetaTensor, low: NDArray[np.intp], high: NDArray[np.intp]) -> Any:
    """The part of a picture (C, i, j, 1) from ``low`` to ``high`` (2,), padded by its darkest value."""
    before, after = np.maximum(-low, 0), np.maximum(high - image.shape[1:3], 0)
    if before.any() or after.any():
        border = [int(before[0]), int(after[0]), int(before[1]), int(after[1]), 0, 0]
        image = BorderPad(border, value=float(image.min()))(image)  # type: ignore[assignment]
    start, end = low + before, high + before
    return SpatialCrop(roi_start=[*start.tolist(), 0], roi_end=[*end.tolist(), image.shape[3]])(image)


class BreastCrop(Transform):
    """The box around the breast, chest wall to one side, with all else at the film's darkest value.

    The breast is looked for on every n-th pixel, n such that the shorter edge has about 256 (:func:`breast_mask`).

    Args:
        side: where the chest wall is to be, ``left`` or ``right``.

    Raises:
        ConfigError: if the side is neither.
    """

    def __init__(self, side: str = "left") -> None:
        if side not in SIDES:
            raise ConfigError(f"There is no side {side!r} of a film; use left or right.")
        self.side = side

    def __call__(self, img: Any) -> Any:
        """Give the breast (1, i, j) of a film (1, i, j), the affine kept up.

        Raises:
            DataError: if there is no breast on the film.
        """
        film = to_numpy(img)[0]
        step = max(1, min(film.shape) // SEARCHED_SIDE)
        small = breast_mask(film[::step, ::step])
        columns, rows = (np.flatnonzero(small.any(axis)) * step for axis in (1, 0))
        low = np.array([columns[0], rows[0]])
        high = np.minimum([columns[-1] + step, rows[-1] + step], film.shape)
        around = np.kron(small, np.ones((step, step), dtype=bool))
        outside = ~np.pad(around, [(0, max(0, n - m)) for n, m in zip(film.shape, around.shape, strict=True)])
        filled = film.copy()
        filled[outside[: film.shape[0], : film.shape[1]]] = film.min()
        out = convert_to_dst_type(filled[None], img)[0]
        part = SpatialCrop(roi_start=low.tolist(), roi_end=high.tolist())(torch.as_tensor(out))
        turned = breast_side(film[::step, ::step]) != self.side
        return Flip(spatial_axis=0)(part) if turned else part


class BreastCropd(Keyed):
    """Dictionary version of :class:`BreastCrop`."""

    array_class = BreastCrop
