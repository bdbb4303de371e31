"""Seed random transforms again and again, sample by sample, without making new generators each time."""

from __future__ import annotations

from operator import attrgetter

import numpy as np
from monai.transforms import Compose, RandAffined, RandFlipd, Randomizable
from monai.utils import MAX_SEED

_PARTS: dict[type, tuple[str, ...]] = {RandFlipd: (), RandAffined: ("rand_affine.rand_affine_grid", "rand_affine")}
"""What has a generator of its own inside a transform that sets all of them to the same seed."""


class _Stream(np.random.RandomState):
    """A transform's own generator, made by :func:`reseed`: nothing else draws from it."""


def reseed(transform: Randomizable, seed: int) -> None:
    """Do what ``transform.set_random_state(seed)`` does, and draw the same numbers, but keep the generators.

    A new ``RandomState`` gathers entropy before it is seeded, for nothing.

    Args:
        transform: a random transform, or MONAI's ``Compose`` with some inside.
        seed: a non-negative integer.
    """
    if isinstance(transform, Compose):
        _restart(transform, seed)
        for inner in transform.transforms:
            if isinstance(inner, Randomizable):
                reseed(inner, int(transform.R.randint(MAX_SEED, dtype="uint32")))
    elif type(transform) in _PARTS:
        for path in _PARTS[type(transform)]:
            _restart(attrgetter(path)(transform), seed)
        _restart(transform, seed)
    elif type(transform).set_random_state is Randomizable.set_random_state:
        _restart(transform, seed)
    else:  # it has generators inside that it alone knows
        transform.set_random_state(seed=seed)


def _restart(transform: Randomizable, seed: int) -> None:
    if not isinstance(transform.R, _Stream):
        transform.R = _Stream()
    transform.R.seed(seed % MAX_SEED)
