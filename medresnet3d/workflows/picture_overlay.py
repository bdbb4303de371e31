"""A picture with what was found in it drawn over, in the picture's own size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medresnet3d.io.atomic import atomic_path

if TYPE_CHECKING:
    from medresnet3d.io import Volume

FILLING = 0.3
"""Share of a label's colour inside its outline."""


def save_overlay(volume: Volume, label_map: NDArray[Any], path: Path) -> Path:
    """Write a picture with its labels as PNG: a light filling and an outline in the colours of the reports.

    Args:
        volume: the picture.
        label_map: (i, j, 1) on its grid.
        path: the file.
    """
    from PIL import Image

    from medresnet3d.reports.planes import label_color

    pixels, labels = eight_bits(volume.array), label_map[:, :, 0].T
    for label in np.unique(labels[labels > 0]).tolist():
        here = labels == label
        colour = np.array([int(label_color(label)[place : place + 2], 16) for place in (1, 3, 5)], dtype=np.float32)
        pixels[here] = np.rint((1 - FILLING) * pixels[here] + FILLING * colour).astype(np.uint8)
        pixels[here & ~ndimage.binary_erosion(here)] = colour.astype(np.uint8)
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG", compress_level=1)
    return path


def eight_bits(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Pixels (rows, columns, 3) of a picture (i, j, 1) or (i, j, 1, 3); other types than bytes from black to white."""
    flat = array[:, :, 0].swapaxes(0, 1)
    if flat.dtype != np.uint8:
        low, high = float(flat.min()), float(flat.max())
        flat = (flat.astype(np.float32) - low) * (255 / max(high - low, 1e-6))
    coloured = flat if flat.ndim == 3 else np.repeat(flat[..., None], 3, axis=2)
    return np.array(coloured, dtype=np.uint8)
