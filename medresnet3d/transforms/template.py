"""Template-based augmentation: every subject in the shape, and with the looks, of every other.

Tustison et al., "Convolutional neural networks with template-based data augmentation for functional lung image
quantification", Acad. Radiol. 2019: with a template T and its maps to N subjects, subject i goes to the space of
subject j through T, which makes N images into N x N with shapes that occur. Registration takes seconds to minutes a
scan and is done once; its result is kept on disk and applied while training.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform
from numpy.typing import NDArray

from medresnet3d.errors import ConfigError
from medresnet3d.transforms.load import LoadVolumed
from medresnet3d.transforms.pictures import to_numpy
from medresnet3d.transforms.registration import register
from medresnet3d.transforms.template_maps import Placed, read_placed, warp_image, warp_label

LEVELS = 257  # of the table of quantiles that stands for a histogram; the smallest value comes before them
TARGETS = ("subjects", "template")
FORMAT = 1  # of the files; raise it when their meaning changes


class TemplateAugmentation(RandomizableTransform):
    """Give a scan, and its label map, the shape of another subject's and some of its looks.

    A scan that was not seen before is registered to the template first, see
    :func:`medresnet3d.transforms.registration.register`, and its map kept in ``cache_dir`` under a hash of its voxels,
    its affine and the settings, so that a changed preprocessing never gets an old map. :meth:`prepare` does that for
    all references beforehand. The result lies on the grid of the other subject: draw patches afterwards.

    Args:
        references: scans of the training set, as items with ``image`` (path or tensor), tensors (C, ...) or paths. The
            first is the template; give a typical one.
        cache_dir: folder of the maps.
        preprocessing: deterministic transform of items that brings a reference to what will be augmented; ``None``
            reads it.
        prob: how often.
        targets: ``subjects`` for the space of any reference, ``template`` for that of the first alone.
        intensity: largest share, drawn evenly from 0, to which the values take on the other subject's histogram.
        grid_mm: distance between the points of the maps.
        iterations: of the deformable stage.

    Raises:
        ConfigError: if there are fewer than two references, or the targets are unknown.

    Example:
        >>> augment = TemplateAugmentation(paths, "cache")  # doctest: +SKIP
        >>> image, label = augment(image, label)  # doctest: +SKIP
    """

    def __init__(
        self,
        references: Sequence[Any],
        cache_dir: str | os.PathLike[str],
        preprocessing: Callable[[Any], Any] | None = None,
        prob: float = 0.5,
        targets: str = "subjects",
        intensity: float = 1.0,
        grid_mm: float = 4.0,
        iterations: int = 40,
    ) -> None:
        super().__init__(prob)
        if len(references) < 2:
            raise ConfigError(f"template-based augmentation needs 2 references or more, not {len(references)}.")
        if targets not in TARGETS:
            raise ConfigError(f"There are no targets {targets!r}; use {', '.join(TARGETS)}.")
        self.references, self.cache_dir = list(references), Path(cache_dir)
        self.preprocessing = LoadVolumed("image") if preprocessing is None else preprocessing
        self.targets, self.intensity = targets, intensity
        self.grid_mm, self.iterations = grid_mm, iterations
        self._template: MetaTensor | None = None
        self._known: dict[str, Placed] = {}
        self._reference_keys: list[str] = []
        self._draw, self._share = 0.0, 0.0

    def prepare(self) -> None:
        """Register all references, as far as the cache does not have them."""
        if not self._reference_keys:
            self._reference_keys = [self._placed(self._reference(index))[0] for index in range(len(self.references))]

    def randomize(self, data: Any = None) -> None:
        """Draw whether to act, the subject and the share of its histogram."""
        super().randomize(None)
        self._draw, self._share = float(self.R.uniform()), float(self.R.uniform(0, self.intensity))

    def __call__(self, img: Any, label: Any = None, randomize: bool = True) -> Any:
        """Give the scan (C, ...), or scan and label map, MetaTensors in the other subject's space.

        Args:
            img: scan (C, i, j) or (C, i, j, k); its affine is used.
            label: label map (1, ...) on its grid.
            randomize: draw anew.
        """
        if randomize:
            self.randomize()
        if self._do_transform:
            self.prepare()
            image = _as_meta(img)
            key, source = self._placed(image)
            goal = self._goal(key)
            if goal is not None:
                img = self._warped(image, source, goal)
                label = None if label is None else warp_label(_as_meta(label), source, goal)
        return img if label is None else (img, label)

    def _goal(self, key: str) -> Placed | None:
        """The scan whose space was drawn; never the one that is augmented."""
        keys = self._reference_keys[:1] if self.targets == "template" else self._reference_keys
        others = [other for other in keys if other != key]
        return self._known[others[int(self._draw * len(others))]] if others else None

    def _warped(self, image: MetaTensor, source: Placed, goal: Placed) -> MetaTensor:
        warped = warp_image(image, source, goal)
        if self._share == 0:
            return warped
        for channel, own, other in zip(warped, source.quantiles, goal.quantiles, strict=True):
            values = channel.numpy()
            matched = np.interp(values, own, other).astype(np.float32)
            channel.copy_(torch.from_numpy(values + self._share * (matched - values)))
        return warped

    def _reference(self, index: int) -> MetaTensor:
        given = self.references[index]
        item = given if isinstance(given, Mapping) else {"image": given}
        if isinstance(item["image"], torch.Tensor) and isinstance(self.preprocessing, LoadVolumed):
            return _as_meta(item["image"])
        return _as_meta(self.preprocessing(dict(item))["image"])

    def _placed(self, image: MetaTensor) -> tuple[str, Placed]:
        """The key and the maps of a scan: from memory, from disk, or made."""
        if self._template is None:
            self._template = self._reference(0)
        key = self._key(image)
        if key not in self._known:
            path = self.cache_dir / f"{key}.npz"
            placed = read_placed(path)
            if placed is None:
                placed = self._register(image)
                placed.save(path)
            self._known[key] = placed
        return key, self._known[key]

    def _key(self, image: MetaTensor) -> str:
        assert self._template is not None
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr((FORMAT, self.grid_mm, self.iterations, sitk.Version_VersionString())).encode())
        for each in (self._template, image):
            digest.update(repr(tuple(each.shape)).encode() + np.asarray(each.affine, dtype=np.float64).tobytes())
            digest.update(np.ascontiguousarray(to_numpy(each), dtype=np.float32).tobytes())
        return digest.hexdigest()

    def _register(self, image: MetaTensor) -> Placed:
        assert self._template is not None
        template, moving = (to_numpy(each[0]).astype(np.float32) for each in (self._template, image))
        dims = moving.ndim
        affines = [_affine_of(each, dims) for each in (self._template, image)]
        maps = register(template, affines[0], moving, affines[1], self.grid_mm, self.iterations)
        table = np.stack([_quantiles(channel) for channel in to_numpy(image).astype(np.float32)])
        return Placed(moving.shape, affines[1], *maps, table)


class TemplateAugmentationd(RandomizableTransform, MapTransform):
    """Dictionary version of :class:`TemplateAugmentation`.

    Args:
        image_key: the scan.
        label_key: its label map, if the item has one.
        **options: see :class:`TemplateAugmentation`.
    """

    def __init__(self, image_key: str = "image", label_key: str = "label", **options: Any) -> None:
        MapTransform.__init__(self, [image_key, label_key], allow_missing_keys=True)
        RandomizableTransform.__init__(self, 1.0)
        self.image_key, self.label_key = image_key, label_key
        self.transform = TemplateAugmentation(**options)

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> TemplateAugmentationd:
        """Seed the array transform."""
        self.transform.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give the item with scan and label map in another subject's space, or as they were."""
        item = dict(data)
        if self.label_key in item:
            item[self.image_key], item[self.label_key] = self.transform(item[self.image_key], item[self.label_key])
        else:
            item[self.image_key] = self.transform(item[self.image_key])
        return item


def _as_meta(image: Any) -> MetaTensor:
    return image if isinstance(image, MetaTensor) else MetaTensor(torch.as_tensor(image))


def _affine_of(image: MetaTensor, dims: int) -> NDArray[np.float64]:
    """The affine of the first ``dims`` axes, (dims + 1, dims + 1)."""
    full = np.asarray(image.affine, dtype=np.float64)
    affine = np.eye(dims + 1)
    affine[:-1, :-1], affine[:-1, -1] = full[:dims, :dims], full[:dims, -1]
    return affine


def _quantiles(channel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values at equal steps of the distribution of what is above the smallest value, which stays where it is."""
    low = channel.min()
    body = channel[channel > low]
    if body.size == 0:
        return np.full(LEVELS + 1, low, dtype=np.float32)
    table = np.quantile(body, np.linspace(0, 1, LEVELS))
    return np.concatenate([[low], table]).astype(np.float32)
