"""One pass of windows over an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from medresnet3d.errors import ConfigError
from medresnet3d.inferers.streams import OutputStream, Target, window_weights
from medresnet3d.inferers.structure import flatten
from medresnet3d.inferers.transfer import Boxes, batches
from medresnet3d.inferers.windows import Index, WindowPlan

#: computes windows (N, C, ...) that lie at these places of the image
Forward = Callable[[torch.Tensor, Boxes], Any]


class WindowPass:
    """Compute the windows of a plan and put together the outputs for the whole image.

    A batch that does not fit into the device's memory is computed in halves; if one window does not fit, the sums move
    to main memory. What is finished stays.

    Args:
        plan: the grid of the windows.
        importance: weights (1, 1, ...) of a window's voxels; ``None``: all equal.
        target: where the outputs go.
        forward: the network.
        device: where the network computes.
        batch: windows that are computed at once.
        tick: called after every step with the number of windows it went through.

    Attributes:
        peak_bytes: the most bytes that were kept at a time, beside the outputs themselves.
        notes: what was done after too little memory.
    """

    def __init__(
        self,
        plan: WindowPlan,
        importance: torch.Tensor | None,
        target: Target,
        forward: Forward,
        device: torch.device,
        batch: int = 1,
        tick: Callable[[int], None] = lambda windows: None,
    ) -> None:
        self.plan = plan
        self.importance = importance
        self.target = target
        self.forward = forward
        self.device = device
        self.batch = max(batch, 1)
        self.tick = tick
        self.peak_bytes = 0
        self.notes: list[str] = []
        self._largest_batch = self.batch
        self._sums_on: torch.device | None = None
        self._streams: list[OutputStream] = []
        self._rebuild: Callable[[Sequence[Any]], Any] = lambda results: results[0]

    def run(self, image: torch.Tensor, keep: set[Index] | None = None) -> tuple[list[torch.Tensor], Any]:
        """Go through the windows.

        Args:
            image: (1, C, ...), padded to the plan's ``padded_size``.
            keep: grid indices of the windows to compute, at least one; ``None``: all.

        Returns:
            the outputs, and the function that puts them into the network's own structure.
        """
        steps = self._steps(keep)
        computed = [[index for index in step if keep is None or index in keep] for step in steps]
        boxes = [[self.plan.slices(index) for index in some] for some in computed]
        for step, some, places, windows in zip(steps, computed, boxes, batches(image, boxes, self.device), strict=True):
            self._put(step, some, self._compute(windows, places))
            self.tick(len(step))
        return [stream.sink.finish() for stream in self._streams], self._rebuild

    def _steps(self, keep: set[Index] | None) -> list[list[Index]]:
        """Divide the windows into steps with up to a batch of computed windows, and at least one."""
        steps: list[list[Index]] = [[]]
        count = 0
        for index in self.plan.indices():
            computed = keep is None or index in keep
            if computed and count == self.batch:
                steps.append([])
                count = 0
            steps[-1].append(index)
            count += computed
        return steps

    def _compute(self, windows: torch.Tensor, boxes: Boxes) -> list[torch.Tensor]:
        """Return the network's outputs, each (N, K, ...), computed in as many pieces as the memory asks for."""
        pieces = []
        at = 0
        while at < len(boxes):
            some = slice(at, at + self._largest_batch)
            try:
                outputs, self._rebuild = flatten(self.forward(windows[some], boxes[some]))
            except torch.OutOfMemoryError as error:
                self._retreat(error)
                continue
            pieces.append([output.to(self._sums_on) for output in outputs] if self._sums_on else outputs)
            at += self._largest_batch
        return [torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*pieces, strict=True)]

    def _retreat(self, error: BaseException) -> None:
        """Arrange for less memory, or give up."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if self._largest_batch > 1:
            self._largest_batch //= 2
            self.notes.append(f"too little device memory: {self._largest_batch} windows at once")
        elif self._sums_on is None:
            self._sums_on = torch.device("cpu")
            for stream in self._streams:
                stream.to(self._sums_on)
            self.notes.append("too little device memory: windows were added up in main memory")
        else:
            raise ConfigError(
                f"a window of {' x '.join(map(str, self.plan.roi_size))} voxels does not fit into the memory of "
                f'{self.device}; choose a smaller roi_size, or "cpu" as sw_device.'
            ) from error

    def _put(self, step: list[Index], computed: list[Index], outputs: list[torch.Tensor]) -> None:
        if not self._streams:
            self._open(outputs)
        position = {index: number for number, index in enumerate(computed)}
        for index in step:
            number = position.get(index)
            for output, stream in zip(outputs, self._streams, strict=True):
                stream.add(index, None if number is None else output[number : number + 1])
        self.peak_bytes = max(self.peak_bytes, sum(stream.nbytes for stream in self._streams))

    def _open(self, outputs: list[torch.Tensor]) -> None:
        weights = self.importance
        for output in outputs:
            if weights is not None and self.importance is not None:
                weights = window_weights(weights, self.importance, output.shape[2:])
            self._streams.append(OutputStream(self.plan, output, weights, self.target))


def pad_image(image: torch.Tensor, padding: Sequence[tuple[int, int]], mode: str, value: float) -> torch.Tensor:
    """Pad an image (B, C, ...) by so many voxels before and after along each spatial axis.

    Raises:
        ConfigError: if the image is too small for that kind of padding.
    """
    if not any(before or after for before, after in padding):
        return image
    flat = [voxels for pair in reversed(padding) for voxels in pair]
    if mode == "constant":
        return F.pad(image, flat, mode=mode, value=value)
    try:
        return F.pad(image if image.is_floating_point() else image.float(), flat, mode=mode)
    except RuntimeError as error:
        raise ConfigError(
            f"an image of {' x '.join(map(str, image.shape[2:]))} voxels is too small to be padded by {mode} to the "
            'window; choose padding_mode "constant" or "replicate", or a smaller roi_size.'
        ) from error
