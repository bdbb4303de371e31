"""Our scans in the place of the files that a bundle from elsewhere would read by itself."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, LoadImaged, MapTransform, SaveImaged, Transform
from monai.utils import SpaceKeys
from numpy.typing import NDArray

from medresnet3d.errors import DataError
from medresnet3d.io import Volume, require_same_grid

_TRUTH = re.compile(r"(^|[_\-])(label|labels|lbl|mask|seg|segmentation|gt|ground_truth|target)s?($|[_\-0-9])", re.I)
_NO_CHANNEL = float("nan")


class FeedVolumesd(MapTransform):
    """Stands where ``LoadImaged`` stood and gives what that would have given, from scans that are in memory.

    A grey-scale scan becomes (i, j, k) without channel, several modalities (C, i, j, k) with the channel first, a
    colour image (i, j, C) with the channel last; a later ``EnsureChannelFirstd`` finds this in the metadata.

    Args:
        loader: the transform whose place it takes; its keys, type and channel setting are kept.
        flat: give slices of one voxel's thickness as two-dimensional images, as networks for them want.
        channels: of the network's input; a grey picture is repeated for a network of three, and transparency is left
            out; 0: take a picture as it is.
    """

    def __init__(self, loader: LoadImaged, flat: bool, channels: int = 0) -> None:
        super().__init__(loader.keys, allow_missing_keys=True)
        reader = loader._loader
        self.dtype = reader.dtype
        self.channel_first = bool(reader.ensure_channel_first)
        self.with_dictionaries = not reader.image_only
        self.meta_keys = [
            meta or f"{key}_{postfix}"
            for key, meta, postfix in zip(loader.keys, loader.meta_keys, loader.meta_key_postfix, strict=True)
        ]
        self.flat = flat
        self.channels = channels

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give the item with tensors in the place of scans."""
        item = dict(data)
        for key, meta_key in self.key_iterator(item, self.meta_keys):
            if isinstance(item[key], Volume) or _is_volumes(item[key]):
                item[key] = self._tensor(item[key] if isinstance(item[key], list) else [item[key]])
                if self.with_dictionaries:
                    item[meta_key] = dict(item[key].meta)
        return item

    def _tensor(self, volumes: list[Volume]) -> MetaTensor:
        first = volumes[0]
        for other in volumes[1:]:
            require_same_grid(first, other)
        arrays = [self._coloured(voxels(volume, self.flat)) for volume in volumes]
        colour = arrays[0].ndim > (2 if self.flat and first.array.shape[2] == 1 else 3)
        array, channel = (np.stack(arrays), 0) if len(arrays) > 1 else (arrays[0], -1 if colour else _NO_CHANNEL)
        if len(arrays) > 1 and colour:
            raise DataError(f"{first.source.name}: several colour images cannot be one input; give them one by one.")
        if self.channel_first:
            array = np.moveaxis(array, -1, 0) if channel == -1 else array if channel == 0 else array[None]
            channel = 0
        flat = self.flat and first.array.shape[2] == 1
        spatial = first.array.shape[: 2 if flat else 3]
        affine = flat_affine(first) if flat else first.affine.copy()
        meta = {
            "filename_or_obj": first.source.name,
            "spatial_shape": np.array(spatial),
            "original_affine": affine.copy(),
            "original_channel_dim": channel,
            "space": SpaceKeys.RAS,
        }
        values = torch.from_numpy(np.ascontiguousarray(array).astype(self.dtype or np.float32, copy=False))
        return MetaTensor(values, affine=torch.from_numpy(affine.copy()), meta=meta)

    def _coloured(self, array: NDArray[Any]) -> NDArray[Any]:
        if not self.flat or self.channels != 3:
            return array
        return np.stack([array] * 3, axis=-1) if array.ndim == 2 else array[..., :3]


class Saved(MapTransform):
    """Stands where a transform saved images, and says by its keys which."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give the item as it is."""
        return dict(data)


def voxels(volume: Volume, flat: bool) -> NDArray[Any]:
    """Give the voxels of a volume (i, j, k), (i, j) for one slice where ``flat``, colours last where there are any."""
    array = volume.array
    return array[:, :, 0] if flat and array.ndim >= 3 and array.shape[2] == 1 else array


def flat_affine(volume: Volume) -> NDArray[np.float64]:
    """Give the 4 x 4 affine of a slice whose first two rows alone say where its pixels are within the slice.

    A slice that does not lie across the body axis has no such affine; it gets the pixel sizes on the diagonal.
    """
    i, j, k = volume.spacing
    if abs(float(np.linalg.det(volume.affine[:2, :2]))) > 0.5 * i * j:
        return volume.affine.copy()
    return np.diag([i, j, k, 1.0])


def _is_volumes(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, Volume) for one in value)


def steps(transform: Any) -> Iterator[Any]:
    """Yield the single transforms of a composition, nested ones too."""
    if isinstance(transform, Compose):
        for one in transform.transforms:
            yield from steps(one)
    else:
        yield transform


def as_compose(value: Any) -> Compose:
    """Give one composition of whatever a configuration calls its transforms."""
    if isinstance(value, Compose):
        return value
    return Compose(list(value) if isinstance(value, list | tuple) else [] if value is None else [value])


def feed(preprocessing: Compose, flat: bool, channels: int = 0) -> tuple[str, ...]:
    """Let a preprocessing take scans in memory: every ``LoadImaged`` in it is replaced, in place.

    Args:
        preprocessing: from the bundle.
        flat: see :class:`FeedVolumesd`.
        channels: see :class:`FeedVolumesd`.

    Returns:
        the keys that it loads as images, in its own order; empty if it loads nothing that way.
    """
    keys: list[str] = []
    replaced: list[Transform] = []
    for one in preprocessing.transforms:
        if isinstance(one, Compose):
            keys += feed(one, flat, channels)
        elif isinstance(one, LoadImaged):
            keys += [str(key) for key in one.keys]
            one = FeedVolumesd(one, flat, channels)
        replaced.append(one)
    preprocessing.transforms = tuple(replaced)
    images = [key for key in dict.fromkeys(keys) if not _TRUTH.search(key)]
    if keys and images:
        _allow_missing(preprocessing, set(keys) - set(images))
    return tuple(images)


def _allow_missing(preprocessing: Compose, absent: set[str]) -> None:
    """Let transforms pass over the keys of the truth, which nobody has at inference."""
    for one in steps(preprocessing):
        if isinstance(one, MapTransform) and absent & set(map(str, getattr(one, "keys", ()))):
            one.allow_missing_keys = True


def without_savers(postprocessing: Compose) -> tuple[str, ...]:
    """Take the transforms that write files out of a postprocessing, in place.

    Returns:
        the keys that they would have written, in order.
    """
    keys: list[str] = []
    kept: list[Any] = []
    for one in postprocessing.transforms:
        if isinstance(one, Compose):
            keys += without_savers(one)
        elif isinstance(one, Saved | SaveImaged):
            keys += [str(key) for key in one.keys]
            continue
        kept.append(one)
    postprocessing.transforms = tuple(kept)
    return tuple(dict.fromkeys(keys))


def share_inversion(preprocessing: Compose, postprocessing: Compose) -> None:
    """Let inversions of a copy of the preprocessing invert the preprocessing itself; MONAI tells them apart.

    Args:
        preprocessing: was applied.
        postprocessing: may hold ``Invertd``; changed in place.
    """
    kinds = [type(one) for one in steps(preprocessing)]
    for one in steps(postprocessing):
        if isinstance(one, Invertd) and [type(each) for each in steps(one.transform)] == kinds:
            one.transform = preprocessing


def assign(keys: Sequence[str], volumes: Sequence[Volume], name: str) -> dict[str, Any]:
    """Give every image key of a bundle its scan.

    Args:
        keys: from :func:`feed`.
        volumes: the scans of one case.
        name: of the bundle, for the message.

    Raises:
        DataError: if there are not as many scans as keys.
    """
    if len(keys) == 1:
        return {keys[0]: volumes[0] if len(volumes) == 1 else list(volumes)}
    if len(keys) != len(volumes):
        raise DataError(
            f"{volumes[0].source.name}: {name} takes {len(keys)} images a case ({', '.join(keys)}), but {len(volumes)} "
            "are given; list them in this order in a manifest."
        )
    return dict(zip(keys, volumes, strict=True))
