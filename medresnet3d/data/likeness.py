"""Images that are there more than once: equal byte by byte, or pictures that look the same.

Of pictures, re-encoded, resized, brightened or slightly cropped copies are found. A picture is cut to what is not
black, reduced to 32 x 33 grey values, and described by the signs of the differences between neighbours along its rows:
a difference hash (N. Krawetz, "Kind of Like That", hackerfactor.com, 2013) that is large enough to tell fundus
photographs apart and leaves out differences that are noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medresnet3d.progress import Progress

SIDE = 32
"""Rows and columns of the signs that an image is compared by."""

SIGNS_BYTES = 2 * SIDE * SIDE // 8
"""Bytes of the packed signs of one picture."""

AGREEMENT = 0.82
"""Cosine of the signs from which two images count as one. Of 256 fundus photographs of IDRiD distinct ones reach 0.76,
and re-encoded, resized, brightened or slightly cropped copies of 40 of them at least 0.83."""

NOISE = 1.0
"""Differences of neighbours up to this many grey values have no sign."""

FEWEST_SIGNS = 64
"""A picture with fewer signs than these has too little in it to be compared."""

REDUCED = 256
"""Longest side of the picture that is cut, pixels."""

BLOCK = 2048


def content_digest(paths: Iterable[Path]) -> bytes:
    """Give the SHA-256 of the bytes of files in their order; a folder stands for all files below it, sorted by name."""
    digest = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                with file.open("rb") as handle:
                    digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.digest()


def picture_signs(picture: Image.Image) -> NDArray[np.uint8]:
    """Give the packed signs of a picture.

    Args:
        picture: of any mode that Pillow turns to 8-bit grey.

    Returns:
        (256,): 1024 bits that are set where the grey value rises, then 1024 where it falls.
    """
    grey = picture.convert("L")
    grey.thumbnail((REDUCED, REDUCED))
    pixels = np.asarray(grey)
    lit = pixels > 0.1 * pixels.max()
    rows, columns = np.nonzero(lit.any(1))[0], np.nonzero(lit.any(0))[0]
    if len(rows) and len(columns):
        grey = grey.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
    small = np.asarray(grey.resize((SIDE + 1, SIDE), Image.Resampling.BOX), dtype=np.float32)
    steps = np.diff(small, axis=1).ravel()
    return np.concatenate([np.packbits(steps > NOISE), np.packbits(steps < -NOISE)])


def array_signs(pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Give the packed signs of pixels (columns, rows) or (columns, rows, 3) of any type.

    What is not 8-bit is stretched from its lowest to its highest value.
    """
    if pixels.dtype != np.uint8:
        values = pixels.astype(np.float32)
        low, high = float(values.min()), float(values.max())
        pixels = np.round((values - low) * (255 / max(high - low, 1e-6))).astype(np.uint8)
    return picture_signs(Image.fromarray(np.ascontiguousarray(pixels.swapaxes(0, 1))))


def agreement(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Give the cosine (n, m) between packed signs (n, 256) and (m, 256); 0 where there is too little to compare."""
    return _unpacked(first) @ _unpacked(second).T


def near_duplicate_groups(packed: NDArray[np.uint8]) -> list[int]:
    """Number the groups of pictures that look the same, directly or through others.

    Every picture is compared with every other, block by block, so memory stays at 256 bytes a picture and a few
    megabytes, and the time grows with the square of their number.

    Args:
        packed: (n, 256), the signs of each picture.

    Returns:
        the number of its group for each.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    count = len(packed)
    groups = np.arange(count)
    blocks = -(-count // BLOCK)
    with Progress("comparing pictures", blocks * (blocks + 1) // 2) as progress:
        for rows, columns in _alike(packed, progress):
            pairs = (np.concatenate([rows, np.arange(count)]), np.concatenate([columns, groups]))
            graph = coo_matrix((np.ones(len(pairs[0]), bool), pairs), shape=(count, count))
            groups = _first_members(connected_components(graph, directed=False)[1])
    return groups.tolist()


def _alike(packed: NDArray[np.uint8], progress: Progress) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield pairs of pictures that look the same, for each two blocks that have any."""
    for start in range(0, len(packed), BLOCK):
        here = _unpacked(packed[start : start + BLOCK])
        for other in range(start, len(packed), BLOCK):
            rows, columns = np.nonzero(here @ _unpacked(packed[other : other + BLOCK]).T >= AGREEMENT)
            rows, columns = rows + start, columns + other
            distinct = rows < columns
            if distinct.any():
                yield rows[distinct], columns[distinct]
            progress.advance()


def _first_members(groups: NDArray[np.int32]) -> NDArray[np.int64]:
    """Name every group by its first member, so that it can be linked to by number."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return first[inverse]


def _unpacked(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The signs (n, 1024), 0 where nothing changes, scaled to length 1; all 0 where there are too few."""
    bits = np.unpackbits(np.atleast_2d(packed), axis=1).astype(np.float32)
    signs = bits[:, : SIDE * SIDE] - bits[:, SIDE * SIDE :]
    lengths = np.linalg.norm(signs, axis=1, keepdims=True)
    lengths[lengths**2 < FEWEST_SIGNS] = np.inf
    return signs / lengths
