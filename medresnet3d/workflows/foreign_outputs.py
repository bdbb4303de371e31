"""The outputs of a bundle from elsewhere as an answer of ours: on the grid of the input, with names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from monai.transforms import SpatialResample
from monai.utils import convert_to_numpy
from numpy.typing import NDArray

from medresnet3d.errors import BundleError, DataError, GeometryError
from medresnet3d.io import Volume
from medresnet3d.workflows.bundle_parts import Answer
from medresnet3d.workflows.foreign_images import flat_affine
from medresnet3d.workflows.foreign_labels import Meaning
from medresnet3d.workflows.prediction import structure_volumes

_SAME_PLACE = 1e-3
MAX_VALUES = 10_000


def make_answer(outputs: Mapping[str, Any], volume: Volume, meaning: Meaning, bundle: str) -> Answer:
    """Make one answer of everything that a bundle gave for a case.

    Args:
        outputs: by name, the main one first: tensors (K, i, j[, k]) with or without an affine, vectors, numbers, or
            plain values.
        volume: the input.
        meaning: of the main output.
        bundle: its name, for messages.

    Raises:
        BundleError: if there is no output.
        GeometryError: if the place of an output in the input is not known.
        DataError: if values are not finite.
    """
    answer = Answer()
    flat = _main_first(dict(_flatten(outputs)), volume)
    if not flat:
        raise BundleError(f"{bundle}: nothing came out of it for {volume.source.name}.")
    for number, (name, value) in enumerate(flat.items()):
        main = number == 0
        if not isinstance(value, torch.Tensor | np.ndarray | np.generic):
            answer.details[name] = value
        elif _is_image(value, volume):
            _add_image(answer, name, value, volume, meaning if main else None)
        else:
            _add_values(answer, name, value, meaning if main else None, bundle)
    return answer


def _main_first(outputs: dict[str, Any], volume: Volume) -> dict[str, Any]:
    """Put the map with the lowest labels first where there are several (kinds of cells, and numbers of cells)."""
    maps = {
        name: int(value.max())
        for name, value in outputs.items()
        if isinstance(value, torch.Tensor | np.ndarray) and _is_image(value, volume) and _is_whole(np.asarray(value))
    }
    if len(maps) < 2:
        return outputs
    main = min(maps, key=lambda name: maps[name])
    return {main: outputs[main], **outputs}


def _flatten(outputs: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Name every single output of nested ones."""
    flat: list[tuple[str, Any]] = []
    for key, value in outputs.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat += _flatten({str(part): one for part, one in value.items()}, f"{name}_")
        elif isinstance(value, list | tuple) and value and all(isinstance(one, torch.Tensor) for one in value):
            named = {"" if index == 0 else str(index): one for index, one in enumerate(value)}
            flat += [(f"{name}_{part}" if part else name, one) for part, one in named.items()]
        else:
            flat.append((name, value))
    return flat


def _is_image(value: Any, volume: Volume) -> bool:
    """Whether an output has voxels: it lies somewhere, or it is as large as the input."""
    shape, whole = tuple(value.shape), tuple(volume.array.shape[:3])
    if shape[-3:] == whole or (whole[2] == 1 and shape[-2:] == whole[:2]):
        return True
    located = isinstance(value, MetaTensor) and len(shape) >= (3 if whole[2] == 1 else 4)
    return located and all(size > 1 for size in shape[-2:][: 2 if whole[2] > 1 else 1])


def _add_image(answer: Answer, name: str, value: Any, volume: Volume, meaning: Meaning | None) -> None:
    """Add a label map where the main output is one, an image of its own otherwise."""
    on_grid = to_input_grid(value, volume)
    if not np.isfinite(on_grid).all():
        raise DataError(
            f"{volume.source.name}: the bundle's output has values that are not finite; look at the input's values, or "
            "try --exact."
        )
    discrete = _is_whole(on_grid)
    if meaning is not None and (meaning.task == "segmentation" or (discrete and len(on_grid) == 1)):
        _add_segmentation(answer, on_grid, volume, meaning, discrete)
        return
    for index, channel in enumerate(on_grid):
        own = name if len(on_grid) == 1 else f"{name}_{index}"
        answer.images[file_name(own)] = _compact(channel) if discrete else channel.astype(np.float32, copy=False)


def _add_segmentation(answer: Answer, values: NDArray[Any], volume: Volume, meaning: Meaning, discrete: bool) -> None:
    if len(values) == 1:
        label_map = _single_channel(answer, values[0], discrete)
        answer.label_map = label_map
        answer.volumes_ml = structure_volumes(meaning.labels or ("background",), label_map, volume.affine)
        return
    binary = discrete and int(values.max()) <= 1
    names = _channel_names(meaning, len(values))
    has_background = not meaning.structures and len(meaning.labels) == len(values)
    if not binary or (has_background and bool((values.sum(axis=0) == 1).all())):
        if not discrete:
            answer.notes.append(
                "The bundle gives values and no label map; each voxel got the class of its highest one."
            )
        answer.label_map = _compact(values.argmax(axis=0))
        answer.volumes_ml = structure_volumes(_with_background(meaning, names), answer.label_map, volume.affine)
        return
    _add_structures(answer, values.astype(bool), names, volume)


def _single_channel(answer: Answer, values: NDArray[Any], discrete: bool) -> NDArray[Any]:
    if discrete:
        if float(values.min()) < 0:
            answer.notes.append("Negative labels were taken as background.")
        return _compact(np.maximum(values, 0))
    inside = float(values.min()) >= 0.0 and float(values.max()) <= 1.0
    threshold = 0.5 if inside else 0.0
    answer.notes.append(f"The bundle gives values and no label map; the structure is what lies above {threshold:g}.")
    return (values > threshold).astype(np.uint8)


def _channel_names(meaning: Meaning, count: int) -> tuple[str, ...]:
    names = meaning.structures or meaning.labels
    return names if len(names) == count else tuple(f"channel {index}" for index in range(count))


def _with_background(meaning: Meaning, names: tuple[str, ...]) -> tuple[str, ...]:
    return meaning.labels if meaning.labels and not meaning.structures else names


def _add_structures(answer: Answer, masks: NDArray[Any], names: Sequence[str], volume: Volume) -> None:
    """Add structures that may overlap: each as an image, and all in one map with the smaller ones on top."""
    voxel_ml = abs(float(np.linalg.det(volume.affine[:3, :3]))) / 1000.0
    counts = [int(mask.sum()) for mask in masks]
    label_map = np.zeros(masks.shape[1:], np.uint8 if len(masks) < 256 else np.uint16)
    for index in sorted(range(len(masks)), key=lambda one: -counts[one]):
        label_map[masks[index]] = index + 1
    answer.label_map = label_map
    answer.volumes_ml = {name: count * voxel_ml for name, count in zip(names, counts, strict=True)}
    if sum(counts) > int((label_map > 0).sum()):
        answer.notes.append(
            "The structures overlap: the label map shows the smaller one on top, and each is whole in its own file."
        )
        answer.images |= {file_name(name): mask.astype(np.uint8) for name, mask in zip(names, masks, strict=True)}


def _add_values(answer: Answer, name: str, value: Any, meaning: Meaning | None, bundle: str) -> None:
    """Add probabilities or a number where the main output is that, plain values otherwise."""
    array: NDArray[Any] = np.asarray(convert_to_numpy(value))
    if not np.isfinite(array.astype(np.float64)).all():
        raise DataError(f"{bundle}: the output {name} has values that are not finite; look at the input's values.")
    flat = array.ravel()
    if meaning is not None and meaning.task == "classification" and flat.size:
        _add_classes(answer, flat.astype(np.float64), meaning.labels)
    elif meaning is not None and flat.size == 1:
        answer.value = float(flat[0])
    elif flat.size <= MAX_VALUES:
        answer.details[name] = array.tolist()
    else:
        answer.notes.append(f"The output {name} ({array.shape}) is too long for the table and was left out.")


def _add_classes(answer: Answer, values: NDArray[np.float64], labels: tuple[str, ...]) -> None:
    if values.size == 1 and len(labels) == 2:
        share = float(values[0]) if 0.0 <= values[0] <= 1.0 else float(1 / (1 + np.exp(-values[0])))
        values = np.array([1 - share, share])
    names = labels if len(labels) == values.size else tuple(str(index) for index in range(values.size))
    if values.min() < 0 or values.max() > 1 + 1e-4:
        shifted = np.exp(values - values.max())
        values = shifted / shifted.sum()
        answer.notes.append("The bundle gives values and no probabilities; their softmax is shown.")
    answer.probabilities = dict(zip(names, map(float, values), strict=True))
    answer.label = names[int(values.argmax())]


def to_input_grid(value: Any, volume: Volume) -> NDArray[Any]:
    """Bring an output to the grid of the input.

    Args:
        value: (K, i, j[, k]) or one channel without its axis; a MetaTensor where its own grid differs from the input's.
        volume: the input.

    Returns:
        (K, i, j, k) with the input's shape.

    Raises:
        GeometryError: if it is of another shape and has no affine.
    """
    shape = tuple(volume.array.shape[:3])
    tensor = value if isinstance(value, torch.Tensor) else torch.as_tensor(value)
    flat = shape[2] == 1 and not (tensor.ndim >= 3 and tensor.shape[-1] == 1)
    wanted = shape[:2] if flat else shape
    tensor = _channel_first(tensor, len(wanted))
    if not isinstance(value, MetaTensor):
        array: NDArray[Any] = np.asarray(convert_to_numpy(tensor))
        if array.shape[1:] != wanted:
            raise GeometryError(
                f"{volume.source.name}: an output of shape {tuple(value.shape)} does not fit the scan's {shape}, and "
                "nothing says where it lies."
            )
        return array.reshape(len(array), *shape)
    own = np.asarray(value.affine, dtype=np.float64)
    rank = len(wanted)
    target = to_affine_nd(rank, flat_affine(volume) if flat else volume.affine)
    same = np.abs(to_affine_nd(rank, own) - target).max() <= _SAME_PLACE * max(1.0, min(volume.spacing))
    if tuple(tensor.shape[1:]) == wanted and same:
        return np.asarray(convert_to_numpy(tensor)).reshape(len(tensor), *shape)
    mode = "nearest" if _is_whole(np.asarray(convert_to_numpy(tensor))) else "bilinear"
    resample = SpatialResample(mode=mode, padding_mode="zeros", align_corners=False, dtype=np.float64)
    source = MetaTensor(tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor, affine=value.affine)
    moved = resample(source, dst_affine=torch.as_tensor(target), spatial_size=wanted)
    return np.asarray(convert_to_numpy(moved)).reshape(len(tensor), *shape)


def _channel_first(tensor: torch.Tensor, rank: int) -> torch.Tensor:
    """Give (K, ...): an axis of channels is added where there is none, and a batch axis of one is taken off."""
    if tensor.ndim == rank:
        return tensor[None]
    while tensor.ndim > rank + 1 and tensor.shape[0] == 1:
        tensor = tensor[0]
    return tensor


def _is_whole(values: NDArray[Any]) -> bool:
    if values.dtype.kind in "biu":
        return True
    return bool(np.isfinite(values).all()) and bool((values == np.rint(values)).all())


def _compact(values: NDArray[Any]) -> NDArray[Any]:
    """Give whole numbers in the smallest type that holds them."""
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    for kind in (np.uint8, np.uint16, np.int16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return np.ascontiguousarray(values.astype(kind))
    return np.ascontiguousarray(values.astype(np.int64))


def file_name(text: str) -> str:
    """Give a name that every file system takes."""
    return re.sub(r"[^\w\-]+", "_", text).strip("_") or "output"
