"""Random crops of which only the crop is read.

MONAI's own crop runs, with its own random state, on *stand-ins*: tensors of the right shape and type without content
(torch's ``meta`` device). What it returns are views of them, and where a view begins says which part of the stored
array it stands for. So the crop, its affine, its metadata and all random numbers are MONAI's by construction, and a
crop that wanted to see values would fail instead of seeing wrong ones.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    RandCropByLabelClassesd,
    RandCropByPosNegLabeld,
    RandScaleCrop,
    RandScaleCropd,
    RandSpatialCrop,
    RandSpatialCropd,
    RandSpatialCropSamples,
    RandSpatialCropSamplesd,
)
from monai.transforms.compose import execute_compose
from monai.transforms.utils_pytorch_numpy_unification import any_np_pt
from monai.utils import convert_to_dst_type
from numpy.typing import NDArray

from medresnet3d.data.cache.arrays import ArraySpec, Box
from medresnet3d.data.cache.entry import Entry
from medresnet3d.data.cache.header import DamagedEntryError
from medresnet3d.data.cache.index_sets import IndexSet

PLAIN_CROPS = (RandSpatialCrop, RandScaleCrop, RandSpatialCropSamples)
DICTIONARY_CROPS = (RandSpatialCropd, RandScaleCropd, RandSpatialCropSamplesd)
BALANCED_CROPS = (RandCropByPosNegLabeld, RandCropByLabelClassesd)
_SET_KEY = "_stored_voxels"


def is_lazy_crop(transform: Any, chain: Compose) -> bool:
    """Say whether a random transform is a crop of which the cache can read the crop alone.

    Subclasses are not: what they do besides is not known.
    """
    known = type(transform) in (*PLAIN_CROPS, *DICTIONARY_CROPS, *BALANCED_CROPS)
    return known and not transform.lazy and not chain.lazy and chain.map_items in (True, 1) and not chain.unpack_items


def draws_from_label(transform: Any) -> bool:
    """Say whether a crop needs the voxels of each class."""
    return type(transform) in BALANCED_CROPS and not _own_indices(transform)


def _own_indices(crop: Any) -> bool:
    """Whether the item brings the indices, made by a transform such as ``FgBgToIndicesd``."""
    if isinstance(crop, RandCropByPosNegLabeld):
        return crop.fg_indices_key is not None and crop.bg_indices_key is not None
    return crop.indices_key is not None


def voxel_parameters(transform: Any) -> dict[str, Any]:
    """Return the parameters of a balanced crop on which the stored voxels depend."""
    if not draws_from_label(transform):
        return {}
    cropper = transform.cropper
    found = {
        "label_key": transform.label_key,
        "image_key": transform.image_key,
        "image_threshold": cropper.image_threshold,
    }
    if isinstance(transform, RandCropByLabelClassesd):
        found |= {"num_classes": cropper.num_classes, "max_samples_per_class": cropper.max_samples_per_class}
    return found


def voxel_sets(transform: Any, item: Any) -> dict[str, IndexSet]:
    """Return the voxels that a balanced crop draws its centres from, as MONAI defines them.

    Args:
        transform: the crop.
        item: the item as it comes to the crop.

    Returns:
        foreground ``0`` and background ``1``, or one set a class.
    """
    if not draws_from_label(transform) or not isinstance(item, Mapping) or item.get(transform.label_key) is None:
        return {}
    label, image = item[transform.label_key], item.get(transform.image_key)
    if isinstance(transform, RandCropByPosNegLabeld):
        flags = _foreground_background(label, image, transform.cropper.image_threshold)
        return {str(i): IndexSet.of(each) for i, each in enumerate(flags)}
    return _classes(label, image, transform.cropper)


def _foreground_background(label: Any, image: Any, threshold: float) -> list[NDArray[np.bool_]]:
    """Flags of the voxels whose indices MONAI's ``map_binary_to_indices`` lists.

    Its steps are repeated in their own types: for a uint8 tensor without ``image``, MONAI's background is every voxel.
    """
    foreground = any_np_pt(label[1:] if label.shape[0] > 1 else label, 0)
    background = ~foreground
    if image is not None:
        valid, *_ = convert_to_dst_type(any_np_pt(image > threshold, 0), label, dtype=bool)
        background = valid & background
    return [_numbers(each).reshape(-1).astype(bool) for each in (foreground, background)]


def _classes(label: Any, image: Any, cropper: Any) -> dict[str, IndexSet]:
    """The voxels of each class, as MONAI's ``map_classes_to_indices`` lists them."""
    labels = _numbers(label)
    one_hot = labels.shape[0] > 1
    valid = True if image is None else (_numbers(image) > cropper.image_threshold).any(0)
    found = {}
    for number in range(labels.shape[0] if one_hot else cropper.num_classes or 0):
        flags = labels[number].astype(bool) if one_hot else labels[0] == number
        found[str(number)] = IndexSet.of((flags & valid).reshape(-1), cropper.max_samples_per_class)
    return found


def _numbers(value: Any) -> NDArray[Any]:
    return value.detach().as_subclass(torch.Tensor).numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def crop_entry(entry: Entry, transform: Any, chain: Compose) -> Any:
    """Apply a crop to an item of the cache and read only what it leaves.

    Args:
        entry: the item.
        transform: a crop, see :func:`is_lazy_crop`.
        chain: the chain that it belongs to.

    Returns:
        what the crop returned; ``None`` where the item has nothing that could be read in part. Then, and after an
        error, the random state is what it was.

    Raises:
        DamagedEntryError: if the item is not what was written.
    """
    wanted = _stand_in_arrays(entry, transform)
    if not wanted:
        return None
    stand_ins: dict[int, torch.Tensor] = {}

    def fetch(number: int) -> NDArray[Any] | torch.Tensor:
        if number not in wanted:
            return entry.read(number)
        spec = entry.specs[number]
        stand_ins[number] = torch.empty(spec.shape, dtype=_torch_type(spec), device="meta")
        return stand_ins[number]

    item = entry.value(fetch)
    crop = transform
    if draws_from_label(transform):
        crop, item = _with_voxels(transform, item, entry.index_sets)
    keys = {key: number for number, key in wanted.items()}
    states = [(each, each.R.get_state()) for each in (transform, getattr(transform, "cropper", None)) if each]
    result = execute_compose(item, [crop], map_items=chain.map_items, log_stats=chain.log_stats)
    try:
        return _filled(result, lambda key, view: _read(entry, keys[key], view))
    except DamagedEntryError:
        for each, state in states:
            each.R.set_state(state)
        raise


def _stand_in_arrays(entry: Entry, transform: Any) -> dict[int, Any]:
    """Numbers of the arrays that are cropped, with the keys that they lie under (``None`` for an item without keys)."""
    if type(transform) in PLAIN_CROPS:
        nodes = {None: entry.tree} if isinstance(entry.tree, dict) else {}
    else:
        fields = entry.fields()
        nodes = {key: fields[key] for key in transform.keys if key in fields}
    if draws_from_label(transform) and not entry.index_sets:
        return {}
    return {node["n"]: key for key, node in nodes.items() if _is_stored_tensor(node)}


def _is_stored_tensor(node: Any) -> bool:
    """Whether this is the JSON form of a tensor that has an array of its own, of a type that numpy has."""
    if not isinstance(node, dict) or node.get("t") not in ("tensor", "meta"):
        return False
    return type(node.get("n")) is int and "d" not in node


def _torch_type(spec: ArraySpec) -> torch.dtype:
    return torch.from_numpy(np.empty(0, spec.logical)).dtype


def _with_voxels(transform: Any, item: dict[Any, Any], sets: Mapping[str, IndexSet]) -> tuple[Any, dict[Any, Any]]:
    """The crop set to take the stored voxels from the item, and the item with them; the random state is shared."""
    crop = copy.copy(transform)
    ordered = [sets[str(i)] for i in range(len(sets))]
    if isinstance(transform, RandCropByLabelClassesd):
        crop.indices_key = _SET_KEY
        return crop, {**item, _SET_KEY: ordered}
    crop.fg_indices_key, crop.bg_indices_key = f"{_SET_KEY}_0", f"{_SET_KEY}_1"
    return crop, {**item, crop.fg_indices_key: ordered[0], crop.bg_indices_key: ordered[1]}


def _filled(result: Any, read: Callable[[Any, torch.Tensor], torch.Tensor]) -> Any:
    """The result of a crop with every view of a stand-in replaced by what it stands for."""
    if isinstance(result, list):
        return [_filled(each, read) for each in result]
    if isinstance(result, dict):
        return {key: read(key, each) if _is_stand_in(each) else each for key, each in result.items()}
    return read(None, result) if _is_stand_in(result) else result


def _is_stand_in(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.device.type == "meta"


def _read(entry: Entry, number: int, view: torch.Tensor) -> torch.Tensor:
    values = torch.from_numpy(entry.read(number, _box(entry.specs[number], view)))
    if not isinstance(view, MetaTensor):
        return values
    result = values.as_subclass(MetaTensor)
    result.__dict__.update(view.__dict__)
    return result  # type: ignore[return-value]


def _box(spec: ArraySpec, view: torch.Tensor) -> Box:
    """Which part of a stored array a view of its stand-in shows."""
    if view.numel() == 0:
        return tuple((0, size) for size in view.shape)
    starts = np.unravel_index(int(view.storage_offset()), spec.shape)
    return tuple((int(start), int(start) + size) for start, size in zip(starts, view.shape, strict=True))
