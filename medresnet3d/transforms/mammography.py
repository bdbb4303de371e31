"""Mammograms: the breast to one side, and what is not breast taken out."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Flip, InvertibleTransform, MapTransform, Transform
from monai.utils.enums import TraceKeys
from monai.utils.type_conversion import convert_to_dst_type
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.measure import label

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.transforms.keyed import Keyed
from medresnet3d.transforms.pictures import to_numpy

Mask = NDArray[np.bool_]
SIDES = ("left", "right")
SEARCHED_SIDE = 256  # pixels of the shorter side, up to twice that, at which the muscle is looked for


def breast_mask(film: NDArray[Any]) -> Mask:
    """The breast: the largest bright part of a film, without markers, labels and scratches.

    The threshold is a quarter of the way from the film's dark level to Otsu's, since the skin is dim; an opening
    cuts off what touches the breast by a thread; holes are filled.

    Args:
        film: (i, j), bright tissue on dark air.

    Returns:
        Mask (i, j).

    Raises:
        DataError: if the film has one value only.
    """
    values = ndimage.gaussian_filter(film.astype(np.float32), max(1.0, min(film.shape) / 512))
    dark = float(np.percentile(values, 2))
    if values.max() <= dark:
        raise DataError("the film has one value only: there is no breast in it.")
    threshold = dark + 0.25 * (threshold_otsu(values) - dark)
    bright = ndimage.binary_opening(values > threshold, iterations=max(1, min(film.shape) // 100))
    parts = label(bright)
    if parts.max() == 0:
        raise DataError("there is no breast on the film: no bright part is wider than a hundredth of its side.")
    largest = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    return np.asarray(ndimage.binary_fill_holes(largest))


def breast_side(film: NDArray[Any]) -> str:
    """Whether the chest wall is at the ``left`` or ``right`` border of a film (i, j), i from the left.

    It is where more of the breast lies: the breast is wide at the chest wall and narrow at the nipple.
    """
    columns = breast_mask(film).sum(1)
    half = len(columns) // 2
    return "left" if columns[:half].sum() >= columns[-half:].sum() else "right"


def pectoral_mask(film: NDArray[Any]) -> Mask:
    """The pectoral muscle of an oblique (MLO) view whose chest wall is at the left: a bright wedge at the top left.

    The border is the straight line across the upper left corner along which brightness falls most steeply, averaged
    along the line: the Hough transform of the gradient, as in Karssemeijer, "Automated classification of parenchymal
    patterns in mammograms", Phys. Med. Biol. 1998, here between 10 and 60 degrees from the chest wall. If the wedge is
    not brighter than what lies beyond the line, or is tiny, there is no muscle (as in CC views) and the mask is empty.

    Args:
        film: (i, j), i from the chest wall, j from the top.
    """
    breast = breast_mask(film)
    step = max(1, min(film.shape) // SEARCHED_SIDE)
    small, inside = film[::step, ::step].astype(np.float32), breast[::step, ::step]
    smooth = ndimage.gaussian_filter(small, 2.5)
    down_i, down_j = np.gradient(smooth)
    best: tuple[float, float, float] | None = None
    for angle in np.deg2rad(np.arange(10, 61, 2)):
        found = _steepest_line(-(np.cos(angle) * down_i + np.sin(angle) * down_j), inside, angle)
        if found is not None and (best is None or found[0] > best[0]):
            best = (found[0], found[1], angle)
    if best is None:
        return np.zeros(film.shape, dtype=bool)
    _, offset, angle = best
    columns, rows = np.indices(small.shape)
    distance = np.cos(angle) * columns + np.sin(angle) * rows - offset
    wedge = inside & (distance < 0)
    beyond = inside & (distance >= 2) & (distance < 12) & (rows < offset / np.sin(angle))
    if wedge.sum() < 0.005 * inside.sum() or not beyond.any() or small[wedge].mean() < 1.12 * small[beyond].mean():
        return np.zeros(film.shape, dtype=bool)
    columns, rows = np.indices(film.shape)
    return np.asarray(breast & (np.cos(angle) * columns + np.sin(angle) * rows < offset * step))


def _steepest_line(fall: NDArray[Any], inside: Mask, angle: float) -> tuple[float, float] | None:
    """Mean fall of brightness across the best line of a direction, and its distance from the corner in pixels."""
    width, height = fall.shape
    columns, rows = np.indices(fall.shape)
    distance = np.rint(np.cos(angle) * columns + np.sin(angle) * rows).astype(int)
    counted = inside & (columns > 2) & (rows > 2)
    count = np.bincount(distance[counted], minlength=distance.max() + 1)
    total = np.bincount(distance[counted], weights=fall[counted], minlength=distance.max() + 1)
    offsets = np.arange(len(count))
    # the line crosses the top within the film and the chest wall above its lower fifth
    allowed = (offsets / np.cos(angle) < 0.8 * width) & (offsets / np.sin(angle) < 0.85 * height)
    allowed &= (offsets / np.cos(angle) > 0.08 * width) & (count > 10)
    if not allowed.any():
        return None
    mean = np.where(allowed, total / np.maximum(count, 1), -np.inf)
    index = int(np.argmax(mean))
    return float(mean[index] * np.sqrt(count[index])), float(index)


def _first_plane(img: Any) -> NDArray[Any]:
    """(i, j) of an image (1, i, j) or (1, i, j, 1).

    Raises:
        DataError: if there are several channels or slices.
    """
    values = to_numpy(img)
    if values.shape[0] != 1 or (values.ndim == 4 and values.shape[3] != 1) or values.ndim not in (3, 4):
        raise DataError(f"a mammogram is (1, i, j), but this image is {tuple(values.shape)}.")
    return values[0, ..., 0] if values.ndim == 4 else values[0]


class BreastOrientation(InvertibleTransform):
    """Mirror a film so that the chest wall is at one side; the inverse mirrors back.

    Args:
        side: ``left`` or ``right``.

    Raises:
        ConfigError: if the side is neither.
    """

    def __init__(self, side: str = "left") -> None:
        if side not in SIDES:
            raise ConfigError(f"There is no side {side!r} of a film; use left or right.")
        self.side = side
        self.flip = Flip(spatial_axis=0)

    def is_turned(self, img: Any) -> bool:
        """Whether a film (1, i, j) has its chest wall on the other side."""
        return breast_side(_first_plane(img)) != self.side

    def turn(self, img: torch.Tensor, turned: bool) -> torch.Tensor:
        """Give an image (C, i, j) mirrored or as it is, and note which in a MetaTensor."""
        out: torch.Tensor = self.flip(img) if turned else torch.as_tensor(img).clone()
        self._do_transform = turned
        if isinstance(out, MetaTensor):
            self.push_transform(out, replace=True)
        return out

    def __call__(self, img: torch.Tensor) -> torch.Tensor:
        """Give the film (1, i, j), mirrored where needed."""
        return self.turn(img, self.is_turned(img))

    def inverse(self, data: MetaTensor) -> MetaTensor:
        """Mirror back what was mirrored."""
        noted = self.pop_transform(data)
        if not noted[TraceKeys.DO_TRANSFORM]:
            return data
        data.applied_operations.append(noted[TraceKeys.EXTRA_INFO])
        back: MetaTensor = self.flip.inverse(data)  # type: ignore[assignment]
        return back


class BreastOrientationd(MapTransform, InvertibleTransform):
    """Dictionary version of :class:`BreastOrientation`: the film decides for all keys.

    Args:
        keys: film and masks.
        source_key: the film.
        side: see :class:`BreastOrientation`.
        allow_missing_keys: skip keys that an item does not have.
    """

    def __init__(
        self, keys: KeysCollection, source_key: str = "image", side: str = "left", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.source_key = source_key
        self.transform = BreastOrientation(side)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give the item with all keys mirrored, or none."""
        item = dict(data)
        turned = self.transform.is_turned(item[self.source_key])
        for key in self.key_iterator(item):
            item[key] = self.transform.turn(item[key], turned)
        return item

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Mirror back what was mirrored."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.transform.inverse(item[key])
        return item


class RemoveBackground(Transform):
    """Set everything but the breast (and the muscle) to the dark level: markers, labels, scratches, air.

    Args:
        value: what goes outside the breast; ``None``: the smallest value of the film.
    """

    def __init__(self, value: float | None = None) -> None:
        self.value = value

    def __call__(self, img: Any) -> Any:
        """Give the film (1, i, j) in its own type."""
        return _filled(img, ~breast_mask(_first_plane(img)), self.value)


class RemoveBackgroundd(Keyed):
    """Dictionary version of :class:`RemoveBackground`."""

    array_class = RemoveBackground


class RemovePectoral(Transform):
    """Set the pectoral muscle to the dark level, where one is found; see :func:`pectoral_mask`.

    Args:
        value: what goes in its place; ``None``: the smallest value of the film.
    """

    def __init__(self, value: float | None = None) -> None:
        self.value = value

    def __call__(self, img: Any) -> Any:
        """Give the film (1, i, j) in its own type; the chest wall may be at either side."""
        film = _first_plane(img)
        if breast_side(film) == "left":
            return _filled(img, pectoral_mask(film), self.value)
        return _filled(img, pectoral_mask(film[::-1])[::-1], self.value)


class RemovePectorald(Keyed):
    """Dictionary version of :class:`RemovePectoral`."""

    array_class = RemovePectoral


def _filled(img: Any, mask: Mask, value: float | None) -> Any:
    values = to_numpy(img).copy()
    values[mask.reshape(values.shape)] = values.min() if value is None else value
    return convert_to_dst_type(values, img)[0]
