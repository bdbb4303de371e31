"""Tensors whose channels are the innermost axis in memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch

FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""The memory format of tensors (B, C, ...) with that many axes."""


def channels_last(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor (B, C, ...) channels last; with one channel, whose strides are ambiguous, by its strides too."""
    tensor = tensor.contiguous(memory_format=FORMATS[tensor.dim()])
    if tensor.shape[1] > 1:
        return tensor
    strides = torch.empty((1, 2, *tensor.shape[2:]), device="meta").to(memory_format=FORMATS[tensor.dim()]).stride()
    return tensor.as_strided(tensor.shape, (strides[0] // 2, 1, *(step // 2 for step in strides[2:])))


def empty_planes(
    like: torch.Tensor, planes: int, channels: int | None = None, size: Sequence[int] | None = None
) -> torch.Tensor:
    """An uninitialised tensor (B, C, planes, ...) in the memory order, number format and on the device of another.

    Args:
        like: (B, C, ...), channels last or contiguous.
        planes: along the first spatial axis.
        channels: ``None``: as many as ``like`` has.
        size: along the other spatial axes; ``None``: that of ``like``.
    """
    shape = (like.shape[0], channels or like.shape[1], planes, *(like.shape[3:] if size is None else size))
    last = like.dim() in FORMATS and like.stride(1) == 1 and like.shape[-1] > 1
    empty = torch.empty(
        shape,
        dtype=like.dtype,
        device=like.device,
        memory_format=FORMATS[like.dim()] if last else torch.contiguous_format,
    )
    return channels_last(empty) if last else empty
