"""How much memory a network needs for an image of some size, and how much there is."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path

import torch
from torch import nn

from medresnet3d.inferers.tracing import trace

#: reckoned memory may be wrong by so much: workspace of the convolutions, reordered copies
SAFETY = 1.5
#: without a limit set by the caller, no more than this and half of what is free
DEFAULT_LIMIT = 3 << 29
#: an image of more voxels than this (256 cubed) is large: what it takes in main memory must not grow with it
LARGE_VOXELS = 1 << 24
#: most bytes that a tile or slab of a large image may take, where nobody asked for them
LARGE_LIMIT = 1 << 28
_EXAMPLE = 64


def values_per_voxel(network: nn.Module, in_channels: int, spatial_dims: int) -> float:
    """Reckon the most numbers that one forward pass keeps at a time, for each voxel of the input.

    Args:
        network: the network.
        in_channels: channels of its input.
        spatial_dims: 2 or 3.

    Raises:
        ConfigError: if the network cannot be traced.
    """
    record = trace(network, (1, in_channels, *[_EXAMPLE] * spatial_dims))
    last_use: dict[int, int] = {}
    for number, call in enumerate(record.calls):
        for key in (*call.reads, *call.writes):
            last_use[key[0]] = number
    for output in record.outputs:
        last_use[output[0]] = len(record.calls)
    alive: dict[int, int] = {}
    peak = 0
    for number, call in enumerate(record.calls):
        alive |= {key[0]: tensor.numel() for key, tensor in zip(call.writes, call.outputs, strict=True)}
        peak = max(peak, sum(alive.values()))
        alive = {name: size for name, size in alive.items() if last_use[name] > number}
    return SAFETY * peak / _EXAMPLE**spatial_dims


def tile_limit(image_size: Sequence[int], device: torch.device, asked_for: bool) -> int:
    """Return how many bytes one pass over a tile may take where the caller sets no limit.

    Args:
        image_size: voxels along each spatial axis.
        device: where the network computes.
        asked_for: whether the caller wants tiles, rather than whatever suits the image.
    """
    large = device.type == "cpu" and not asked_for and prod(image_size) > LARGE_VOXELS
    return min(available_bytes(device) // 2, LARGE_LIMIT if large else DEFAULT_LIMIT)


def available_bytes(device: torch.device) -> int:
    """Return the free memory of a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    info = Path("/proc/meminfo")
    if info.exists():
        for line in info.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 if hasattr(os, "sysconf") else DEFAULT_LIMIT


class _Reuse:
    """How many want freed memory to be kept now."""

    lock = threading.Lock()
    count = 0


#: parameters of glibc's mallopt
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
#: what glibc itself arrives at once large blocks have been freed: mapped from 32 MiB on, given back from 64 MiB on
_USUAL = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 64 << 20}
_KEEPING = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1}


@contextmanager
def reused_memory() -> Iterator[None]:
    """Let what is allocated inside the block take memory that was freed inside it.

    Usually the C library gives a large block back to the system when it is freed, and gets a new one for the next
    tensor, page by page and filled with zeros. In a forward pass over large tensors that takes up to a quarter of the
    time.
    What is free at the end of the block is given back. Where the C library is not glibc, nothing is changed.
    """
    library = _glibc()
    if library is None:
        yield
        return
    _switch(library, 1)
    try:
        yield
    finally:
        _switch(library, -1)


def _switch(library: ctypes.CDLL, change: int) -> None:
    with _Reuse.lock:
        _Reuse.count += change
        if _Reuse.count == max(change, 0):  # the first comes or the last goes
            for parameter, value in (_KEEPING if change > 0 else _USUAL).items():
                library.mallopt(parameter, value)
            if change < 0:
                library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if os.name != "posix":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
