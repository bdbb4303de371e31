"""What all picture files share: which page is meant, which way up it is, and what is told about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medresnet3d.errors import AmbiguousInputError

ORIENTATION = 0x0112
"""The tag of EXIF and TIFF that says how a picture lies in its file."""
UPRIGHT = 1
TURNED = (5, 6, 7, 8)
"""Orientations that exchange rows and columns."""
PUT_UPRIGHT = "The photograph was put upright, as its EXIF orientation says."
NO_TRANSPARENCY = "The transparency of the image was left out."
_FLIPS = {2: (1,), 3: (0, 1), 4: (0,), 5: (), 6: (0,), 7: (0, 1), 8: (1,)}


def known_orientation(value: object) -> int:
    """Give the orientation that a file states, or upright for a value that EXIF does not know."""
    return value if isinstance(value, int) and value in _FLIPS else UPRIGHT


def put_upright(pixels: NDArray[Any], orientation: int, warnings: list[str]) -> NDArray[Any]:
    """Turn or mirror pixels of shape (rows, columns, ...) as the EXIF orientation says, and tell it."""
    if orientation == UPRIGHT:
        return pixels
    warnings.append(PUT_UPRIGHT)
    flipped = np.flip(pixels, _FLIPS[orientation])
    return flipped.swapaxes(0, 1) if orientation in TURNED else flipped


def upright_size(columns: int, rows: int, orientation: int) -> tuple[int, int]:
    """Give columns and rows of a picture once it is put upright."""
    return (rows, columns) if orientation in TURNED else (columns, rows)


def chosen_page(pages: int, page: str | None, path: Path) -> int:
    """Give the number of the page that is meant.

    Raises:
        AmbiguousInputError: if there are several pages and ``page`` names none of them.
    """
    if pages == 1:
        return 0
    if page is None or not page.isdecimal() or int(page) >= pages:
        fault = "one has to be chosen" if page is None else f"there is no page {page!r}"
        raise AmbiguousInputError(
            f"{path}: the file has {pages} pages, so {fault}; choose one with --series N (series='N' in Python), "
            f"N from 0 to {pages - 1}."
        )
    return int(page)
