"""Dictionary transforms made from array transforms: a class of two lines for each."""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Mapping
from typing import Any, ClassVar

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable, RandomizableTransform, Transform

from medresnet3d.reseeding import reseed


class Keyed(MapTransform):
    """Apply an array transform to several items of a dictionary.

    A subclass names ``array_class``; its constructor takes ``keys``, then what the array class takes.

    Args:
        keys: items to transform.
        *args: arguments of the array transform.
        allow_missing_keys: skip keys that an item does not have.
        **options: arguments of the array transform by name.
    """

    array_class: ClassVar[type[Transform]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Give the subclass the signature that its constructor has in effect."""
        super().__init_subclass__(**kwargs)
        if "array_class" in cls.__dict__:
            own = inspect.signature(Keyed.__init__).parameters
            array = list(inspect.signature(cls.array_class).parameters.values())
            flag = own["allow_missing_keys"].replace(kind=inspect.Parameter.KEYWORD_ONLY)
            cls.__signature__ = inspect.Signature([own["keys"], *array, flag])  # type: ignore[attr-defined]

    def __init__(self, keys: KeysCollection, *args: Any, allow_missing_keys: bool = False, **options: Any) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform: Any = self.array_class(*args, **options)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of the item with each key transformed."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.transform(item[key])
        return item


class RandKeyed(Keyed, Randomizable):
    """Apply a random array transform to several items, with one draw for all of them."""

    array_class: ClassVar[type[RandomizableTransform]]

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> RandKeyed:
        """Seed the array transform."""
        if seed is None:
            self.transform.set_random_state(state=state)
        else:
            reseed(self.transform, seed)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of the item with each key transformed alike."""
        item = dict(data)
        first = self.first_key(item)
        if first == ():
            return item
        self.transform.randomize(item[first])
        for key in self.key_iterator(item):
            item[key] = self.transform(item[key], randomize=False)
        return item
