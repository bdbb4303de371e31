"""Several preprocessed versions of one image, packed as channels for a network with a trunk for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable

from medresnet3d.errors import ConfigError, DataError


class PackVersionsd(MapTransform):
    """Put versions of an image behind one another on the channel axis.

    :class:`medresnet3d.networks.multi_input.MultiInputClassifier` takes them apart again.

    Args:
        keys: images (C, ...).
        versions: transforms of an image, e.g. colour constancy; ``None`` is the image itself. They get one image each,
            so they must not be random: a random transform comes before or after this one, for all versions alike.
        allow_missing_keys: skip keys that an item does not have.

    Raises:
        ConfigError: if there is no version.
        DataError: while running, if a version has another shape in space than the image.

    Example:
        >>> pack = PackVersionsd("image", [None, torch.neg])
        >>> pack({"image": torch.ones(3, 4, 4)})["image"].mean((1, 2)).tolist()
        [1.0, 1.0, 1.0, -1.0, -1.0, -1.0]
    """

    def __init__(
        self,
        keys: KeysCollection,
        versions: Sequence[Callable[[Any], Any] | None],
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if not versions:
            raise ConfigError("PackVersionsd has no version of the image to pack; list transforms, or null for none.")
        self.versions = list(versions)

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Give a copy of ``data`` with (versions * C, ...) in place of each image; metadata are the image's."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self._packed(item[key])
        return item

    def _packed(self, image: Any) -> Any:
        made = [torch.as_tensor(image if each is None else each(image)) for each in self.versions]
        plain = [each.as_tensor() if isinstance(each, MetaTensor) else each for each in made]
        for number, each in enumerate(plain):
            if each.shape[1:] != image.shape[1:]:
                raise DataError(
                    f"Version {number} of the image has the shape {tuple(each.shape[1:])}, but the image has "
                    f"{tuple(image.shape[1:])}; let the versions keep the size, and resize before them."
                )
        packed = torch.cat([each.to(plain[0].dtype) for each in plain])
        return MetaTensor(packed, meta=image.meta) if isinstance(image, MetaTensor) else packed


class RandPackVersionsd(PackVersionsd, Randomizable):
    """:class:`PackVersionsd` with random versions: of each picture each draws its own.

    Args:
        keys: see :class:`PackVersionsd`.
        versions: transforms of an image, random or not; ``None`` is the image itself.
        allow_missing_keys: see :class:`PackVersionsd`.
    """

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandPackVersionsd:
        """Seed every random version, each with a seed of its own."""
        super().set_random_state(seed, state)
        for each in self.versions:
            if isinstance(each, Randomizable):
                each.set_random_state(int(self.R.randint(2**31)))
        return self

    def randomize(self, data: Any = None) -> None:
        """Nothing is drawn here: each version draws when it is made."""
