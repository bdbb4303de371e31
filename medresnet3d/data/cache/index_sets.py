"""Sets of voxels to draw crop centres from, in at most a bit a voxel, of which one draw reads one block."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK_BITS = 4096


class IndexSet:
    """Increasing flat indices, as ``numpy.flatnonzero`` gives them, without the list of them being made.

    The flags are cut into blocks of 4096; blocks in which all are equal are not stored. MONAI's crops ask for the
    length and for single members only, which is what this offers.

    Args:
        counts: flags that are set in each block, (n,), uint16.
        mixed: the blocks with both set and unset flags, packed, (m, 512), uint8.
        limit: thin out to at most so many members, evenly, as MONAI's ``max_samples_per_class`` does.
    """

    def __init__(self, counts: NDArray[np.uint16], mixed: NDArray[np.uint8], limit: int | None = None) -> None:
        self.counts = counts
        self.mixed = mixed
        self.limit = limit
        self._ends = np.cumsum(counts, dtype=np.int64)
        self._rows = np.cumsum((counts > 0) & (counts < BLOCK_BITS)) - 1
        self._all = int(self._ends[-1]) if self._ends.size else 0
        self._is_thinned = bool(limit) and self._all > max(1, limit or 0)

    @classmethod
    def of(cls, flags: NDArray[np.bool_], limit: int | None = None) -> IndexSet:
        """Make the set of the indices of the flags that are set, (N,)."""
        padded = np.zeros(-(-flags.size // BLOCK_BITS) * BLOCK_BITS, bool)
        padded[: flags.size] = flags
        blocks = padded.reshape(-1, BLOCK_BITS)
        counts = blocks.sum(1, dtype=np.int64).astype(np.uint16)
        mixed = blocks[(counts > 0) & (counts < BLOCK_BITS)]
        return cls(counts, np.packbits(mixed, axis=1).reshape(-1, BLOCK_BITS // 8), limit)

    def __len__(self) -> int:
        """Return the number of members."""
        return int(self.limit or 0) if self._is_thinned else self._all

    def __getitem__(self, number: int) -> np.int64:
        """Return member ``number``, counted from 0."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        if self._is_thinned:
            number = int(np.round(np.linspace(0, self._all - 1, len(self)))[number])
        block = int(np.searchsorted(self._ends, number, side="right"))
        rank = number - int(self._ends[block]) + int(self.counts[block])
        if self.counts[block] < BLOCK_BITS:
            rank = int(np.flatnonzero(np.unpackbits(self.mixed[self._rows[block]]))[rank])
        return np.int64(block * BLOCK_BITS + rank)
