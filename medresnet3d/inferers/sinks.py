"""What becomes of finished sums: logits, probabilities or labels of the whole image."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.inferers.transfer import HostWriter
from medresnet3d.inferers.windows import Index

OUTPUTS = ("logits", "probabilities", "labels")
#: logit of what is certain
SURE = 20.0
#: voxels of a large finished block that are turned into answers at once
ANSWER_VOXELS = 1 << 20


def label_dtype(classes: int) -> torch.dtype:
    """Return the smallest integer type for labels 0 to ``classes - 1``."""
    if classes <= 256:
        return torch.uint8
    return torch.int16 if classes <= 32768 else torch.int32


def argmax(values: torch.Tensor) -> torch.Tensor:
    """Return the class with the largest of the sums (1, K, ...), int64 (1, 1, ...); for K = 1 whether it is above 0.

    Raises:
        DataError: if the largest one is not finite somewhere, which a label would hide.
    """
    largest, labels = (values, (values > 0).long()) if values.shape[1] == 1 else values.max(dim=1, keepdim=True)
    if not torch.isfinite(largest).all():
        raise DataError(
            "The network's output has values that are not finite; look at the input's values, or try another precision."
        )
    return labels


def answer_logits(channels: int, answer: int | None) -> torch.Tensor:
    """Return logits (K,) that say ``answer`` with certainty; for one channel, class 1 is its positive answer."""
    if channels == 1 or answer is None:
        return torch.full((channels,), SURE if answer else -SURE)
    return torch.zeros(channels).index_fill_(0, torch.tensor(answer), SURE)


class Sink:
    """The output for a whole image, filled block by block.

    Args:
        kind: ``logits``, ``probabilities`` (softmax; sigmoid of a single channel) or ``labels``.
        channels: number of the network's output channels.
        size: voxels of the output along each spatial axis.
        offset: the output voxel at which the padded image's first voxel lies, along each axis (negative: padding).
        device: where the output is kept.
        dtype: of logits and probabilities.
        answer: class of what is never written; ``None``: none of them.
        partial: whether something may never be written.
        compute_device: where the blocks come from; labels are kept there until the last one is written.

    Attributes:
        output: (1, K, ...) or for labels (1, 1, ...).

    Raises:
        ConfigError: if there is no such class.
    """

    def __init__(
        self,
        kind: str,
        channels: int,
        size: Sequence[int],
        offset: Sequence[int],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        answer: int | None = 0,
        partial: bool = False,
        compute_device: torch.device | None = None,
    ) -> None:
        self.kind = kind
        self.size = tuple(size)
        self.offset = tuple(offset)
        if answer is not None and not 0 <= answer < max(channels, 2):
            raise ConfigError(f"empty_answer is {answer} but the network has {channels} output channels.")
        self.answer = answer
        self.partial = partial
        self.device = device
        self._writer = HostWriter()
        if kind == "labels":
            kept = compute_device or device
            self.output = torch.full((1, 1, *size), answer or 0, dtype=label_dtype(channels), device=kept)
        else:
            self.output = torch.empty((1, channels, *size), dtype=dtype, device=device)
        if partial and kind != "labels":
            self.output.copy_(self._answer_block(self.output).expand_as(self.output))

    def write(self, start: Index, values: torch.Tensor, weights: torch.Tensor | None = None) -> None:
        """Write a block.

        Args:
            start: its first voxel in the padded image.
            values: weighted sums (1, K, ...), changed; or, without weights, outputs of any number format.
            weights: the sums of the weights (1, 1, ...), 0 where nothing was computed; ``None``: not needed.
        """
        inside = [
            (max(first + shift, 0), min(first + shift + length, size))
            for first, shift, length, size in zip(start, self.offset, values.shape[2:], self.size, strict=True)
        ]
        if any(begin >= end for begin, end in inside):
            return
        target = self.output[(slice(None), slice(None), *(slice(*pair) for pair in inside))]
        for axis, ((begin, end), first, shift) in enumerate(zip(inside, start, self.offset, strict=True), 2):
            values = values.narrow(axis, begin - first - shift, end - begin)
            weights = None if weights is None else weights.narrow(axis, begin - first - shift, end - begin)
        self._convert(target, values, weights)

    def finish(self) -> torch.Tensor:
        """Return the output when all of it has arrived."""
        self._writer.finish()
        self.output = self.output.to(self.device)
        return self.output

    def _convert(self, target: torch.Tensor, values: torch.Tensor, weights: torch.Tensor | None) -> None:
        if self.kind == "labels":
            result = argmax(values)
        else:
            result = values.float() if weights is None else values.div_(weights)
            if self.kind == "probabilities":
                result = result.sigmoid() if values.shape[1] == 1 else result.softmax(dim=1)
        if self.partial and weights is not None:
            result = torch.where(weights > 0, result.to(target.dtype), self._answer_block(target).to(result.device))
        self._writer.write(target, result)

    def _answer_block(self, target: torch.Tensor) -> torch.Tensor:
        """The answer for what is left out, broadcast over a block."""
        if self.kind == "labels":
            return torch.tensor(self.answer or 0, dtype=target.dtype)
        logits = answer_logits(self.output.shape[1], self.answer)
        if self.kind == "probabilities":
            logits = logits.sigmoid() if self.answer is None or len(logits) == 1 else logits.softmax(dim=0)
        return logits.view(1, -1, *[1] * len(self.size))
