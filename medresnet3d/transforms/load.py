"""From paths to MetaTensors: every pipeline of this package begins here."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import DtypeLike, KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import SpaceKeys
from monai.utils.misc import ensure_tuple
from numpy.typing import NDArray

from medresnet3d.errors import DataError
from medresnet3d.io import Volume, as_volume, load, require_same_grid
from medresnet3d.io.dicom_voi import with_voi_lut

MAX_NAMED_VALUES = 5


class LoadVolumed(MapTransform):
    """Read scans and label maps with :func:`medresnet3d.io.load`, with every check that is made there.

    Each key may hold a path, a list of paths (several modalities of one case, stacked as channels; a scan of several
    DICOM files is given as its folder), a :class:`~medresnet3d.io.Volume`, an (i, j, k) array, an (array, affine)
    pair, or a list of these; a colour picture gives three channels. It becomes a :class:`monai.data.MetaTensor` of
    shape (C, i, j, k) whose affine maps voxel indices to RAS+ millimetres and whose ``meta`` has ``filename_or_obj``,
    ``spatial_shape``, ``original_affine``, ``original_channel_dim`` and ``space``, as MONAI's own loader leaves them.
    The item gets ``warnings``, a text of one line for each thing that was repaired or assumed (empty if none).

    Args:
        keys: images.
        label_keys: label maps; they may, but need not, be among ``keys``. They stay whole numbers and must lie on the
            grid of the first image of the item.
        allow_missing_keys: skip keys that an item does not have.
        num_classes: number of classes, background included; label maps must stay below it.
        dtype: type of images.
        label_dtype: type of label maps.
        voi_lut: give DICOM images (mammograms) as their makers show them, see
            :func:`medresnet3d.io.dicom_voi.with_voi_lut`.

    Raises:
        DataError: from :func:`medresnet3d.io.load`; or if a label map has values that are not whole numbers or lie
            outside the class list.
        GeometryError: from :func:`medresnet3d.io.load`; or if modalities of a case, or image and label map, do not lie
            on the same grid.

    Example:
        >>> load = LoadVolumed("image", label_keys="label", num_classes=4)
        >>> load({"image": "t1.nii.gz", "label": "tissue.nii.gz"})["image"].shape  # doctest: +SKIP
        torch.Size([1, 162, 214, 167])
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_keys: KeysCollection = (),
        allow_missing_keys: bool = False,
        num_classes: int | None = None,
        dtype: DtypeLike = np.float32,
        label_dtype: DtypeLike = np.uint8,
        voi_lut: bool = False,
    ) -> None:
        self.label_keys = tuple(ensure_tuple(label_keys))
        every = dict.fromkeys((*ensure_tuple(keys), *self.label_keys))
        super().__init__(tuple(sorted(every, key=lambda key: key in self.label_keys)), allow_missing_keys)
        self.num_classes = num_classes
        self.dtype = np.dtype(dtype)
        self.label_dtype = np.dtype(label_dtype)
        self.voi_lut = voi_lut

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Give a copy of ``data`` with its images and label maps read."""
        item = dict(data)
        told: list[str] = item.get("warnings", "").splitlines()
        grid: Volume | None = None
        for key in self.key_iterator(item):
            is_label = key in self.label_keys
            volumes = [_volume(source, is_label) for source in _sources(item[key])]
            if self.voi_lut and not is_label:
                volumes = [with_voi_lut(volume) for volume in volumes]
            for other in volumes[1:]:
                require_same_grid(volumes[0], other)
            if grid is None and not is_label:
                grid = volumes[0]
            if grid is not None:
                require_same_grid(grid, volumes[0])
            item[key] = self._tensor(volumes, is_label)
            told += [text for volume in volumes for text in volume.warnings]
        # not `<key>_warnings`: MONAI's Spacingd takes every key that begins with `<key>_` for a dictionary of metadata
        item["warnings"] = "\n".join(dict.fromkeys(told))
        return item

    def _tensor(self, volumes: Sequence[Volume], is_label: bool) -> MetaTensor:
        if is_label:
            arrays = [self._label_map(volume) for volume in volumes]
        else:
            arrays = [one.astype(self.dtype, copy=False) for volume in volumes for one in _channels(volume)]
        first = volumes[0]
        affine = torch.from_numpy(first.affine.copy())
        meta = {
            "filename_or_obj": first.source.name,
            "spatial_shape": np.array(first.shape),
            "original_affine": first.affine.copy(),
            "original_channel_dim": float("nan") if len(arrays) == 1 else 0,
            "space": SpaceKeys.RAS,
        }
        return MetaTensor(torch.from_numpy(np.ascontiguousarray(np.stack(arrays))), affine=affine, meta=meta)

    def _label_map(self, volume: Volume) -> NDArray[Any]:
        name = volume.source.name
        if volume.channels > 1:
            raise DataError(f"{name}: a label map has one value for each pixel, but this is a colour picture.")
        values = np.unique(volume.array)
        whole = values.astype(np.int64)
        if (whole != values).any():
            raise DataError(f"{name}: a label map needs whole numbers, but it has {_listed(values[whole != values])}.")
        last = np.iinfo(self.label_dtype).max if self.num_classes is None else self.num_classes - 1
        outside = whole[(whole < 0) | (whole > last)]
        if outside.size:
            raise DataError(
                f"{name}: label {_listed(outside)} is outside the class list (0 to {last}); "
                "correct the label map or the list of labels."
            )
        return volume.array.astype(self.label_dtype, copy=False)


def _channels(volume: Volume) -> list[NDArray[Any]]:
    return [volume.array] if volume.channels == 1 else list(np.moveaxis(volume.array, -1, 0))


def _sources(value: Any) -> list[Any]:
    if isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, np.ndarray) for part in value):
        return [value]
    if isinstance(value, (str, os.PathLike, Volume, np.ndarray)):
        return [value]
    if isinstance(value, Iterable) and not isinstance(value, torch.Tensor):
        sources = list(value)
        if not sources:
            raise DataError("an image is given as an empty list; name at least one file.")
        return sources
    raise DataError(f"an image is given as {type(value).__name__}; give a path, a list of paths or a Volume.")


def _volume(source: Any, is_label: bool) -> Volume:
    if isinstance(source, (str, os.PathLike)):
        return load(source, constant_ok=is_label)
    return as_volume(source, constant_ok=is_label)


def _listed(values: NDArray[Any]) -> str:
    text = ", ".join(f"{value:g}" for value in values[:MAX_NAMED_VALUES])
    return text if values.size <= MAX_NAMED_VALUES else f"{text} and {values.size - MAX_NAMED_VALUES} more"
