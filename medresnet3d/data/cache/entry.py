"""One item in one file: written once, mapped into memory, read in parts."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medresnet3d.data.cache.arrays import ArraySpec, Box, raw_view, read_box, verify, write_array
from medresnet3d.data.cache.header import FRAME, DamagedEntryError, parse_frame, parse_header, write_header
from medresnet3d.data.cache.index_sets import BLOCK_BITS, IndexSet
from medresnet3d.data.cache.values import Encoder, decode


def raw_bytes(value: Any) -> int:
    """Return the bytes of the arrays of an item, in their own types.

    Raises:
        UncacheableError: if the item cannot be stored.
    """
    encoder = Encoder()
    encoder(value)
    return sum(array.nbytes for array in encoder.arrays)


def write_entry(
    path: Path,
    value: Any,
    index_sets: Mapping[str, IndexSet],
    name: str = "",
    compress: bool = False,
    half_precision: bool = False,
) -> None:
    """Write an item.

    Args:
        path: the file.
        value: the item, see :mod:`medresnet3d.data.cache.values`.
        index_sets: voxels to draw crop centres from, by name.
        name: data set that the item belongs to.
        compress: compress large arrays in blocks.
        half_precision: see :func:`medresnet3d.data.cache.arrays.narrowest`.

    Raises:
        UncacheableError: if the item cannot be stored.
    """
    encoder = Encoder()
    tree = encoder(value)
    with path.open("wb") as file:
        file.write(bytes(FRAME.size))
        specs = [write_array(file, array, compress, half_precision) for array in encoder.arrays]
        sets: dict[str, Any] = {}
        for key, members in index_sets.items():
            sets[key] = {"first": len(specs), "limit": members.limit}
            specs += [write_array(file, array, compress=False) for array in (members.counts, members.mixed)]
        header = {"name": name, "tree": tree, "sets": sets, "arrays": [spec.as_json() for spec in specs]}
        write_header(file, header)


class Entry:
    """An item in the cache, open for reading.

    Args:
        path: its file.
        check: compare every array with its checksum first, which reads the whole file once.

    Raises:
        DamagedEntryError: if it is not what was written.
        OSError: if there is no such file or it cannot be read.
    """

    def __init__(self, path: Path, check: bool = True) -> None:
        with path.open("rb") as file:
            self.size = path.stat().st_size
            if self.size < FRAME.size:
                raise DamagedEntryError("it is cut off")
            self._data = memoryview(mmap.mmap(file.fileno(), self.size, access=mmap.ACCESS_READ))
        start, length, checksum = parse_frame(bytes(self._data[: FRAME.size]), self.size)
        header = parse_header(bytes(self._data[start : start + length]), checksum)
        arrays, sets = header.get("arrays"), header.get("sets")
        if not isinstance(arrays, list) or not isinstance(sets, dict):
            raise DamagedEntryError("its header is incomplete")
        self.specs = [ArraySpec.parse(raw, start) for raw in arrays]
        self.tree = header.get("tree")
        if check:
            for spec in self.specs:
                verify(self._data, spec)
        self.index_sets = {str(key): self._index_set(raw) for key, raw in sets.items()}

    def _index_set(self, raw: Any) -> IndexSet:
        try:
            counts, mixed = (raw_view(self._data, self.specs[raw["first"] + i]) for i in (0, 1))
            limit = raw["limit"]
        except (KeyError, TypeError, IndexError) as error:
            raise DamagedEntryError("a set of voxels is not described as it should be") from error
        fits = counts.ndim == 1 and mixed.ndim == 2 and mixed.shape[1] == BLOCK_BITS // 8 and mixed.dtype == np.uint8
        partly = int(((counts > 0) & (counts < BLOCK_BITS)).sum()) if counts.dtype.kind == "u" else -1
        if not fits or partly != len(mixed) or not (limit is None or type(limit) is int):
            raise DamagedEntryError("a set of voxels is not what was written")
        return IndexSet(counts, mixed, limit)

    def read(self, number: int, box: Box | None = None) -> NDArray[Any]:
        """Read an array, or a part of it, in its own type."""
        return read_box(self._data, self._spec(number), box)

    def _spec(self, number: int) -> ArraySpec:
        if type(number) is not int or not 0 <= number < len(self.specs):
            raise DamagedEntryError("its header names an array that is not there")
        return self.specs[number]

    def value(self, fetch: Callable[[int], NDArray[Any] | torch.Tensor] | None = None) -> Any:
        """Build the item; every call gives new objects.

        Args:
            fetch: gives array ``number``, or a tensor instead of it; :meth:`read` by default.
        """
        return decode(self.tree, fetch or self.read)

    def fields(self) -> dict[Any, Any]:
        """Return the JSON forms of what lies under the keys of an item that is a dictionary; empty for others."""
        if not isinstance(self.tree, dict) or self.tree.get("t") != "dict":
            return {}
        try:
            return {key: node for key, node in self.tree["v"] if isinstance(key, (str, int))}
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedEntryError("its description of the item cannot be read") from error
