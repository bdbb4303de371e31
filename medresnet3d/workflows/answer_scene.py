"""What a report shows of a classified scan: the scan itself around what the network saw, and where it looked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from medresnet3d.transforms.plane_packing import are_planes, unpack_planes

if TYPE_CHECKING:
    from monai.data import MetaTensor

    from medresnet3d.io import Volume
    from medresnet3d.workflows.prediction import Prediction

MOST_VOXELS = 16_000_000
_MARGIN = 0.5


@dataclass(frozen=True)
class Scene:
    """A picture with the place of its voxels.

    Attributes:
        pixels: values (i, j, k), or of a colour picture (i, j, 1, 3).
        affine: 4 x 4, from voxel indices to RAS+ mm; None of a photograph, which has no place in a patient: its rows
            are in the order from bottom to top then.
        heat: importance of every voxel on the same grid, if there is one.
        modality: of the values, if they are the scan's own.
    """

    pixels: NDArray[Any]
    affine: NDArray[np.float64] | None
    heat: NDArray[Any] | None = None
    modality: str | None = None


def answer_scene(prediction: Prediction, heat: NDArray[Any] | None, modality: str | None) -> Scene | None:
    """Show the part of the scan that the network saw with half as much around it, on the scan's own grid.

    Where the network's input does not lie in the scan, or is too large for a page, its first channel itself is shown.
    Of a photograph all is shown, in its colours.

    Args:
        prediction: with the scan and with what the network saw.
        heat: importance of every voxel that the network saw, (i, j, k).
        modality: of the scan, e.g. "CT".
    """
    seen = prediction.input_tensor
    if seen is None:
        return None
    affine, volume = np.asarray(seen.affine, dtype=np.float64), prediction.volume
    if seen.ndim == 3 and volume is not None and volume.shape[2] == 1 and affine.shape == (4, 4):
        return _photograph(volume, affine, heat)
    own = Scene(seen_pixels(seen), affine, heat)
    if volume is None or volume.array.ndim != 3 or own.pixels.ndim != 3 or affine.shape != (4, 4):
        return own
    to_scan = np.linalg.inv(volume.affine) @ affine
    box = _box(to_scan, own.pixels.shape, volume.array.shape)
    if box is None:
        return own
    shift = np.eye(4)
    shift[:3, 3] = [side.start for side in box]
    pixels = volume.array[box]
    return Scene(pixels, volume.affine @ shift, _moved(heat, np.linalg.inv(to_scan) @ shift, pixels.shape), modality)


def seen_pixels(seen: MetaTensor) -> NDArray[Any]:
    """What the network saw, one value a voxel: its first channel, or planes of a volume in their places."""
    values = np.asarray(seen.as_tensor().cpu())
    return unpack_planes(values, seen.meta) if are_planes(seen.meta) else values[0]


def _photograph(volume: Volume, affine: NDArray[np.float64], heat: NDArray[Any] | None) -> Scene:
    """Show a picture of one slice with the heat of what the network, which works in two dimensions, saw of it."""
    to_seen = np.linalg.inv(affine) @ volume.affine
    moved = _moved(None if heat is None else heat[..., None], to_seen, volume.shape)
    return Scene(volume.array[:, ::-1], None, None if moved is None else moved[:, ::-1])


def heat_on_scan(prediction: Prediction) -> NDArray[np.float32] | None:
    """The importance of every voxel on the grid of the scan; nothing outside what the network saw.

    Args:
        prediction: with the scan, what the network saw and its ``heat``.

    Returns:
        (i, j, k), from 0 to 1; ``None`` where there is no heat or the network's input does not lie in the scan.
    """
    seen, heat, volume = prediction.input_tensor, prediction.heat, prediction.volume
    if seen is None or heat is None or volume is None:
        return None
    if heat.ndim == 2:
        heat = heat[:, :, None]
    to_scan = np.linalg.inv(volume.affine) @ _in_space(np.asarray(seen.affine, dtype=np.float64))
    box = _box(to_scan, heat.shape, volume.shape, most=np.inf)
    if box is None:
        return None
    shift = np.eye(4)
    shift[:3, 3] = [side.start for side in box]
    moved = np.zeros(volume.shape, dtype=np.float32)
    part = _moved(heat, np.linalg.inv(to_scan) @ shift, moved[box].shape)
    moved[box] = 0 if part is None else part
    return moved


def _in_space(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """A 4 x 4 affine for that of a plane, 3 x 3."""
    if affine.shape == (4, 4):
        return affine
    space = np.eye(4)
    space[np.ix_([0, 1, 3], [0, 1, 3])] = affine
    return space


def _box(
    to_scan: NDArray[np.float64], shape: tuple[int, ...], scan: tuple[int, ...], most: float = MOST_VOXELS
) -> tuple[slice, ...] | None:
    """Give the voxels of the scan around the box that the network saw.

    ``None`` where they do not overlap enough or are more than ``most``.
    """
    corners = np.array(list(np.ndindex(2, 2, 2))) * np.asarray(shape) - 0.5
    places = apply_affine(to_scan, corners)
    low, high = places.min(axis=0) + 0.5, places.max(axis=0) + 0.5
    middle = (low + high) / 2
    if (middle < 0).any() or (middle > scan).any():
        return None
    margin = _MARGIN * (high - low)
    start = np.clip(np.floor(low - margin), 0, scan).astype(int)
    stop = np.clip(np.ceil(high + margin), 0, scan).astype(int)
    if (stop - start < 1).any() or np.prod((stop - start).astype(float)) > most:
        return None
    return tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))


def _moved(heat: NDArray[Any] | None, to_seen: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[Any] | None:
    """Bring the heat onto the shown grid, slice by slice; nothing outside what the network saw."""
    if heat is None:
        return None
    moved = np.zeros(shape, dtype=np.float32)
    i, j = np.meshgrid(*map(np.arange, shape[:2]), indexing="ij")
    for k in range(shape[2]):
        places = apply_affine(to_seen, np.stack([i, j, np.full_like(i, k)], axis=-1))
        places = np.moveaxis(places, -1, 0).round(6)  # a slice that rounding puts beside the heat would have none
        moved[:, :, k] = map_coordinates(heat, places, order=1, mode="constant")
    return moved
