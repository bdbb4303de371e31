"""From the windows of one network output to that output for the whole image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from medresnet3d.inferers.accumulator import StreamingAccumulator
from medresnet3d.inferers.sinks import Sink
from medresnet3d.inferers.windows import Index, WindowPlan

#: first-axis planes that are converted and weighted at once are at most this large, to stay in the processor's cache
CHUNK_BYTES = 1 << 20
#: what a whole number may have lost as a product of fractions
ROUNDING = 1e-6


@dataclass(frozen=True)
class Target:
    """Where and as what the outputs of an image are kept.

    Attributes:
        kind: ``logits``, ``probabilities`` or ``labels``.
        size: voxels of the image along each axis.
        corner: the voxel of the image at which the computed box starts.
        device: of the outputs.
        dtype: of logits and probabilities.
        answer: class of what is left out.
        partial: whether something is left out.
    """

    kind: str
    size: Index
    corner: Index
    device: torch.device
    dtype: torch.dtype = torch.float32
    answer: int | None = 0
    partial: bool = False

    def sink(self, example: torch.Tensor, scale: Sequence[float], padding: Sequence[tuple[int, int]]) -> Sink:
        """Make the output for a network output like ``example`` (B, K, ...), ``scale`` times as large as its input."""
        sizes, offsets = [], []
        for size, corner, ratio, (before, after) in zip(self.size, self.corner, scale, padding, strict=True):
            begin = round(before * ratio)
            padded = before or after
            sizes.append(round((before + size) * ratio) - begin if padded else int(size * ratio + ROUNDING))
            offsets.append(round(corner * ratio) - begin)
        return Sink(
            self.kind,
            example.shape[1],
            sizes,
            offsets,
            self.device,
            self.dtype,
            self.answer,
            self.partial,
            example.device,
        )


class OutputStream:
    """Weigh and add the windows of one output and hand the finished blocks to its sink.

    Args:
        plan: the grid of the windows.
        example: the network's output (1, K, ...) for one window, for its shape, type and memory order.
        weights: of a window's voxels in the output, (1, 1, ...); ``None``: all equal.
        target: where the result goes.
    """

    def __init__(self, plan: WindowPlan, example: torch.Tensor, weights: torch.Tensor | None, target: Target) -> None:
        shape = tuple(example.shape[2:])
        self.scale = tuple(out / size for out, size in zip(shape, plan.roi_size, strict=True))
        starts = tuple(
            tuple(start * length // roi for start in along)
            for along, length, roi in zip(plan.starts, shape, plan.roi_size, strict=True)
        )
        self.sink = target.sink(example, self.scale, plan.padding)
        self.weights = None if weights is None else weights.to(example.device)
        kind = torch.float64 if example.dtype == torch.float64 else torch.float32
        self._buffer = torch.empty_like(example[:1], dtype=kind)
        self._sums = StreamingAccumulator(starts, shape, plan.order, self._emit, plan.paired)
        self._total: StreamingAccumulator | None = None
        if target.kind != "labels" or (target.partial and target.answer != 0):
            self._total = StreamingAccumulator(starts, shape, plan.order, self._keep, plan.paired)
            self._total_buffer = torch.empty((1, 1, *shape), dtype=kind, device=example.device)
        self._total_block: torch.Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that are kept beside the output itself."""
        buffers = [self._buffer] + ([self._total_buffer] if self._total else [])
        sums = self._sums.nbytes + (self._total.nbytes if self._total else 0)
        return sums + sum(buffer.numel() * buffer.element_size() for buffer in buffers)

    def to(self, device: torch.device) -> None:
        """Keep the sums on another device from now on."""
        self._buffer = self._buffer.to(device)
        self.weights = None if self.weights is None else self.weights.to(device)
        self._sums.to(device)
        if self._total is not None:
            self._total_buffer = self._total_buffer.to(device)
            self._total.to(device)

    def add(self, index: Index, output: torch.Tensor | None) -> None:
        """Add the output (1, K, ...) for the window with that grid index; ``None``: it is left out."""
        if self._total is not None:
            self._total.add(index, None if output is None else self._window_weights())
        self._sums.add(index, None if output is None else self._weigh(output))

    def _window_weights(self) -> torch.Tensor:
        return self._total_buffer.fill_(1) if self.weights is None else self._total_buffer.copy_(self.weights)

    def _weigh(self, output: torch.Tensor) -> torch.Tensor:
        """Copy the output times the weights into the buffer, in pieces that stay in the processor's cache."""
        if self.weights is None:
            return self._buffer.copy_(output)
        if output.device != self._buffer.device:
            output = output.to(self._buffer.device)
        plane = self._buffer.numel() * self._buffer.element_size() // self._buffer.shape[2]
        planes = max(CHUNK_BYTES // plane, 1) if output.device.type == "cpu" else self._buffer.shape[2]
        for at in range(0, self._buffer.shape[2], planes):
            cut = slice(at, at + planes)
            self._buffer[:, :, cut].copy_(output[:, :, cut]).mul_(self.weights[:, :, cut])
        return self._buffer

    def _keep(self, start: Index, block: torch.Tensor) -> None:
        self._total_block = block

    def _emit(self, start: Index, block: torch.Tensor) -> None:
        self.sink.write(start, block, self._total_block if self._total is not None else None)


def window_weights(previous: torch.Tensor, importance: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Return the weights for an output of ``shape``, as MONAI finds them: from those of the output before it."""
    if tuple(importance.shape[2:]) == tuple(shape):
        return importance
    return F.interpolate(previous, tuple(shape), mode="nearest-exact")
