"""Official annotations turned into label maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medresnet3d.errors import DataError


def read_grey(path: Path) -> NDArray[Any]:
    """The pixels (rows, columns) of a mask in any picture format, GIF and palettes too, as grey values.

    Raises:
        DataError: if the file cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            grey = image if image.mode in ("L", "I", "F", "I;16", "I;16B") else image.convert("L")
            return np.asarray(grey)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: the mask cannot be read ({error}); copy it again.") from error


def foreground(path: Path, share: float = 0.5) -> NDArray[np.uint8]:
    """A map (rows, columns) of 1 where a mask reaches ``share`` of its largest value, 0 elsewhere.

    A mask of zeros gives zeros. JPEG noise around the edge of a black and white mask stays out.
    """
    grey = read_grey(path)
    top = float(grey.max())
    return (
        (grey >= max(share * top, np.finfo(np.float32).tiny)).astype(np.uint8)
        if top > 0
        else np.zeros_like(grey, np.uint8)
    )


def layered(shape: tuple[int, int], parts: Sequence[tuple[int, Path | None]]) -> NDArray[np.uint8]:
    """One map (rows, columns) from a mask for each class; where masks overlap, the later one wins.

    Args:
        shape: (rows, columns).
        parts: class number and mask; ``None`` where the class does not occur.

    Raises:
        DataError: if a mask has another shape.
    """
    result = np.zeros(shape, np.uint8)
    for number, path in parts:
        if path is None:
            continue
        inside = foreground(path)
        if inside.shape != shape:
            raise DataError(f"{path}: the mask has {inside.shape} pixels, but the image has {shape}; copy it again.")
        result[inside > 0] = number
    return result


def picture_shape(path: Path) -> tuple[int, int]:
    """(rows, columns) of a picture, read from its header."""
    from PIL import Image

    with Image.open(path) as image:
        return image.height, image.width
