"""Windows on their way to the device that computes them, and blocks on their way back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

Boxes = Sequence[tuple[slice, ...]]


def gather(image: torch.Tensor, boxes: Boxes) -> torch.Tensor:
    """Return the windows (N, C, ...) of an image (1, C, ...); a view of it where there is only one."""
    windows = [image[(slice(None), slice(None), *box)] for box in boxes]
    return windows[0] if len(windows) == 1 else torch.cat(windows)


def batches(image: torch.Tensor, steps: Sequence[Boxes], device: torch.device) -> Iterator[torch.Tensor]:
    """Yield the windows of each step on ``device``.

    From main memory to a CUDA device they go through two page-locked buffers, on a stream of their own: while the
    device computes one batch, the next is on its way.
    """
    if device.type != "cuda" or image.device.type != "cpu":
        for boxes in steps:
            yield gather(image, boxes).to(device)
        return
    loader = _PinnedLoader(image, device)
    ahead = loader.start(steps[0]) if steps else None
    for number in range(len(steps)):
        assert ahead is not None  # one was started for every step
        ready, copied = ahead
        torch.cuda.current_stream(device).wait_event(copied)
        ready.record_stream(torch.cuda.current_stream(device))
        # The consumer queues the computation of this batch before it asks for the next one.
        yield ready
        ahead = loader.start(steps[number + 1]) if number + 1 < len(steps) else None


class _PinnedLoader:
    """Copies windows to a CUDA device through two page-locked buffers in turn."""

    def __init__(self, image: torch.Tensor, device: torch.device) -> None:
        self.image = image
        self.device = device
        self.stream = torch.cuda.Stream(device)
        self._buffers: list[torch.Tensor | None] = [None, None]
        self._events: list[torch.cuda.Event | None] = [None, None]
        self._turn = 0

    def start(self, boxes: Boxes) -> tuple[torch.Tensor, torch.cuda.Event]:
        """Begin to copy the windows; the event tells when they have arrived."""
        self._turn = 1 - self._turn
        event = self._events[self._turn]
        if event is not None:
            event.synchronize()
        shape = (len(boxes), self.image.shape[1], *(part.stop - part.start for part in boxes[0]))
        buffer = self._buffers[self._turn]
        if buffer is None or buffer.shape != shape:
            buffer = self._buffers[self._turn] = torch.empty(shape, dtype=self.image.dtype, pin_memory=True)
        for number, box in enumerate(boxes):
            buffer[number].copy_(gather(self.image, [box])[0])
        with torch.cuda.stream(self.stream):
            window = buffer.to(self.device, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record(self.stream)
        self._events[self._turn] = arrived
        return window, arrived


class HostWriter:
    """Copy blocks from a CUDA device into tensors in main memory while the device goes on computing."""

    def __init__(self) -> None:
        self._waiting: tuple[torch.cuda.Event, torch.Tensor, torch.Tensor] | None = None

    def write(self, target: torch.Tensor, block: torch.Tensor) -> None:
        """Copy ``block`` into ``target``, at the latest when :meth:`finish` returns."""
        if block.device.type != "cuda" or target.device.type != "cpu":
            target.copy_(block)
            return
        staged = torch.empty(block.shape, dtype=block.dtype, pin_memory=True)
        staged.copy_(block, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()
        self.finish()
        self._waiting = (copied, target, staged)

    def finish(self) -> None:
        """Wait for the last block."""
        if self._waiting is not None:
            copied, target, staged = self._waiting
            copied.synchronize()
            target.copy_(staged)
            self._waiting = None
