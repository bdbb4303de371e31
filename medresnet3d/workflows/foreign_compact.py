"""Label maps instead of one value a class and voxel, wherever a bundle's postprocessing ends in the likeliest class.

105 classes of a whole-body CT are tens of gigabytes. Where the postprocessing takes the likeliest class first, our
sliding window gives it slab by slab and nothing changes. Where it resamples the probabilities before it takes the
likeliest class, the same saves the memory at the price of the nearest instead of the interpolated class at borders,
so that is done only for cases that would not fit otherwise.
"""

from __future__ import annotations

import copy
from typing import Any

from monai.transforms import Activationsd, AsDiscreted, Compose, Invertd, MapTransform

from medresnet3d.inferers import SlidingWindowInferer
from medresnet3d.workflows.foreign_images import steps

NOTE = (
    "The probabilities of all classes would not fit into memory on the grid of the scan: the label map was made before "
    "it was resampled."
)


def split_argmax(answer: Compose) -> tuple[Compose, bool] | None:
    """Take the search for the likeliest class out of a postprocessing that begins with it.

    Args:
        answer: the postprocessing.

    Returns:
        what is left to do with a label map, and whether that gives the very same answer; ``None`` if the
        postprocessing does not begin that way.
    """
    rest = list(steps(answer))
    if rest and _is_softmax(rest[0]):
        del rest[0]
    before: list[Any] = []
    while rest and _is_inversion(rest[0]):
        before.append(rest.pop(0))
    if not rest or not _is_argmax(rest[0]):
        return None
    return Compose([*map(_nearest, before), *rest[1:]]), not before


def label_inferer(inferer: SlidingWindowInferer) -> SlidingWindowInferer:
    """Give the same inferer with label maps as its output."""
    other = copy.copy(inferer)
    other.output = "labels"
    return other


def _of_pred(one: Any, kind: type[MapTransform]) -> bool:
    return type(one) is kind and tuple(one.keys) == ("pred",)


def _is_softmax(one: Any) -> bool:
    return _of_pred(one, Activationsd) and one.softmax == (True,) and one.sigmoid == (False,) and one.other == (None,)


def _is_argmax(one: Any) -> bool:
    plain = _of_pred(one, AsDiscreted) and not one.converter.kwargs
    return plain and one.argmax == (True,) and one.to_onehot == [None] and one.threshold == [None] == [*one.rounding]


def _is_inversion(one: Any) -> bool:
    return _of_pred(one, Invertd)


def _nearest(one: Invertd) -> Invertd:
    """Give an inversion for label maps that shares the transforms to be inverted."""
    other = copy.copy(one)
    other.nearest_interp = (True,)
    return other
