"""Sums of overlapping windows that keep only what later windows still change."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from medresnet3d.inferers.windows import Index

Emit = Callable[[Index, torch.Tensor], None]


class StreamingAccumulator:
    """Add up overlapping windows and hand out each voxel's sum as soon as it is final.

    The windows arrive in nested loops over the axes in ``order``. Along the innermost axis a window is final up to the
    start of the next one; its rest is carried over. What is final along one axis goes on to the next outer axis, where
    the same is done. So the memory is that of the overlaps: along the outermost axis one layer of the overlap's
    thickness, whatever the length of that axis. Where the last two windows along it take turns, each two of them are
    added up first and go on as one longer block.

    Args:
        starts: first voxel of the windows along each spatial axis, ascending.
        size: voxels of a window along each spatial axis.
        order: spatial axes from the outermost loop to the innermost.
        emit: called with the first voxel of a block and its final sums (1, K, ...), which change when it returns.
        paired: whether the last two windows along the outermost axis take turns.
    """

    def __init__(self, starts: Sequence[Index], size: Index, order: Index, emit: Emit, paired: bool = False) -> None:
        self.paired = paired
        self._shift = starts[order[0]][-1] - starts[order[0]][-2] if paired else 0
        self._pair: torch.Tensor | None = None
        self.starts = [along[:-1] if paired and axis == order[0] else along for axis, along in enumerate(starts)]
        self.size = size
        self.order = order
        self.emit = emit
        self._carried: list[dict[Index, torch.Tensor]] = [{} for _ in order]

    @property
    def nbytes(self) -> int:
        """Bytes of the sums that are kept now."""
        kept = [tensor for level in self._carried for tensor in level.values()]
        kept += [] if self._pair is None else [self._pair]
        return sum(tensor.numel() * tensor.element_size() for tensor in kept)

    def to(self, device: torch.device) -> None:
        """Move the sums to another device."""
        self._carried = [{key: tensor.to(device) for key, tensor in level.items()} for level in self._carried]
        self._pair = None if self._pair is None else self._pair.to(device)

    def add(self, index: Index, block: torch.Tensor | None) -> None:
        """Add the window with grid index ``index``.

        Args:
            index: number of the window along each spatial axis.
            block: its values (1, K, ...), which are changed; ``None`` for a window that is left out (zeros).
        """
        outer = self.order[0]
        last = len(self.starts[outer]) - 1
        if self.paired and index[outer] >= last:
            second = index[outer] > last
            self._join(block, second)
            if not second:
                return
            index = (*index[:outer], last, *index[outer + 1 :])
            block, self._pair = self._pair, None
        for depth in reversed(range(len(self.order))):
            block = self._close(depth, index, block)
            if block is None and not any(self._carried[:depth]):
                return
        if block is not None:
            self.emit(tuple(starts[i] for starts, i in zip(self.starts, index, strict=True)), block)

    def _join(self, block: torch.Tensor | None, second: bool) -> None:
        """Add one of two windows that take turns to the block of both."""
        if block is None:
            return
        axis = self.order[0] + 2
        if self._pair is None:
            shape = list(block.shape)
            shape[axis] += self._shift
            memory_order = sorted(range(block.dim()), key=block.stride, reverse=True)
            self._pair = torch.empty_permuted(shape, memory_order, dtype=block.dtype, device=block.device).zero_()
        self._pair.narrow(axis, self._shift if second else 0, block.shape[axis]).add_(block)

    def _close(self, depth: int, index: Index, block: torch.Tensor | None) -> torch.Tensor | None:
        """Add what earlier windows left along one axis; keep what later ones change, return what is final."""
        axis = self.order[depth]
        starts, number = self.starts[axis], index[axis]
        key = tuple(index[inner] for inner in self.order[depth + 1 :])
        carried = self._carried[depth].pop(key, None)
        if carried is not None:
            if block is None:
                block = self._zeros(carried, axis)
            block.narrow(axis + 2, 0, carried.shape[axis + 2]).add_(carried)
        if block is None or number + 1 == len(starts):
            return block
        final = starts[number + 1] - starts[number]
        rest = self.size[axis] - final
        if rest:
            tail = block.narrow(axis + 2, final, rest)
            if carried is None or carried.shape != tail.shape:
                carried = torch.empty_like(tail)
            self._carried[depth][key] = carried.copy_(tail)
        return block.narrow(axis + 2, 0, final)

    def _zeros(self, carried: torch.Tensor, axis: int) -> torch.Tensor:
        shape = list(carried.shape)
        shape[axis + 2] = self.size[axis]
        return carried.new_zeros(shape)
