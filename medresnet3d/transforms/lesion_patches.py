"""Patches of fundus photographs: some around pixels of lesions, others around what is none.

After P. Khojasteh et al. (2019), who classify patches as exudate or not; where the negatives lie is our choice: a part
of them where the retina is brightest, which is where a classifier errs (optic disc, reflections, drusen).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, EnsureTyped, MapTransform, SelectItemsd, Transform
from scipy import ndimage
from torch import Tensor

from medresnet3d.errors import DataError
from medresnet3d.progress import track
from medresnet3d.transforms.fundus_lesions import STRENGTHS, RandCameraLooksd, disc_in_a_square, normalise_colours
from medresnet3d.transforms.picture_pipelines import picture_augmentation

BRIGHT = 97.0
"""Percentile of green on the retina from which on a pixel without a lesion is a hard negative."""


def lesion_patches(
    items: Sequence[Mapping[str, Any]],
    size: int = 896,
    patch_size: int = 24,
    per_photograph: int = 16,
    hard_share: float = 0.5,
    values: Sequence[int] | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """List patches of photographs, whose ``label`` is what their middle pixel is: 1 in a lesion, 0 elsewhere.

    Half of a photograph's patches are of lesions, if it has any; in turn, so that neither class runs out.

    Args:
        items: photographs with ``image``, ``mask`` and ``patient``, as :func:`medresnet3d.data.items` gives them.
        size: see :func:`medresnet3d.transforms.fundus_lesions.disc_in_a_square`.
        patch_size: edge of a patch; pixel number ``patch_size // 2`` is its middle, and it lies within the square.
        per_photograph: patches of each photograph.
        hard_share: share of the negatives that lies where the retina is brightest.
        values: numbers of the lesions in the masks; ``None``: everything above 0.
        seed: of the choice of places.

    Returns:
        the items, each with ``centre`` (i, j) in pixels of the square, and ``label``.

    Raises:
        DataError: if an item has no mask.
    """
    chain = Compose(disc_in_a_square(size, True, values))
    found: list[dict[str, Any]] = []
    for number, item in enumerate(track(items, "choosing patches", total=len(items))):
        if "mask" not in item:
            raise DataError(f"{item.get('path', item['image'])}: has no `mask`, which patches are chosen by; add it.")
        rng = np.random.default_rng([seed, number])
        prepared = chain({"image": item["image"], "mask": item["mask"]})
        image, label = (torch.as_tensor(prepared[key]).as_subclass(Tensor).numpy() for key in ("image", "label"))
        places = _places(image, label[0] > 0.5, patch_size // 2, per_photograph, hard_share, rng)
        found += [{**item, "centre": centre, "label": kind} for kind, chosen in places for centre in chosen]
    return found


def _places(
    image: np.ndarray, lesion: np.ndarray, margin: int, count: int, hard_share: float, rng: np.random.Generator
) -> list[tuple[int, list[list[int]]]]:
    """Middles of positives and negatives of one photograph."""
    inside = np.zeros_like(lesion)
    inside[margin : lesion.shape[0] - margin, margin : lesion.shape[1] - margin] = True
    retina = inside & (image.max(0) > 0.06)
    away = retina & ~ndimage.binary_dilation(lesion, iterations=2)
    green = image[1]
    bright = away & (green >= np.percentile(green[retina], BRIGHT)) if retina.any() else away
    positives = _drawn(lesion & inside, count // 2, rng)
    missing = count - len(positives)
    hard = _drawn(bright, round(hard_share * missing), rng)
    return [(1, positives), (0, [*hard, *_drawn(away, missing - len(hard), rng)])]


def _drawn(mask: np.ndarray, count: int, rng: np.random.Generator) -> list[list[int]]:
    """Some pixels of a mask, each as likely, none twice."""
    places = np.flatnonzero(mask)
    chosen = rng.choice(places, min(count, len(places)), replace=False) if len(places) else places
    return [[int(axis) for axis in np.unravel_index(place, mask.shape)] for place in chosen]


class PatchOfd(MapTransform):
    """The patch around an item's ``centre``; the photograph of the item before is kept, since it is often the same.

    Args:
        size: see :func:`lesion_patches`.
        patch_size: edge of the patch.
    """

    def __init__(self, size: int, patch_size: int) -> None:
        super().__init__("image")
        self.size, self.patch_size = size, patch_size
        self._chain = Compose(disc_in_a_square(size))
        self._kept: tuple[Any, Tensor] | None = None

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Give the item with ``image`` (3, patch_size, patch_size) between 0 and 1."""
        item = dict(data)
        if self._kept is None or self._kept[0] != item["image"]:
            whole = torch.as_tensor(self._chain({"image": item["image"]})["image"]).as_subclass(Tensor)
            self._kept = (item["image"], whole)
        first, second = (middle - self.patch_size // 2 for middle in item["centre"])
        part = self._kept[1][:, first : first + self.patch_size, second : second + self.patch_size]
        item["image"] = part.clone()
        return item


def patch_training(size: int = 896, patch_size: int = 24, augmentation: str = "light") -> Compose:
    """Patches for training: flips and right-angle turns, and changes of light and colour.

    Args:
        size: see :func:`lesion_patches`, as for the next.
        patch_size: edge of a patch.
        augmentation: ``none``, ``light``, ``medium`` or ``strong``.

    Returns:
        a transform of items of :func:`lesion_patches` to tensors (3, patch_size, patch_size).

    Raises:
        ConfigError: if the augmentation is unknown.
    """
    changes = picture_augmentation(augmentation)
    looks: list[Transform] = [RandCameraLooksd("image", STRENGTHS[augmentation], blur=0.0)] if changes else []
    return Compose([*_read(size, patch_size), *changes, *looks, normalise_colours()]).flatten()


def patch_inference(size: int = 896, patch_size: int = 24) -> Compose:
    """Patches with nothing random.

    Args:
        size: see :func:`lesion_patches`, as for the next.
        patch_size: edge of a patch.
    """
    return Compose([*_read(size, patch_size), normalise_colours()]).flatten()


def _read(size: int, patch_size: int) -> list[Transform]:
    kept = SelectItemsd(["image", "label"], allow_missing_keys=True)
    return [PatchOfd(size, patch_size), kept, EnsureTyped("image", track_meta=False)]
