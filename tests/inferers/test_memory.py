from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from medresnet3d.inferers.memory import (
    DEFAULT_LIMIT,
    LARGE_LIMIT,
    SAFETY,
    available_bytes,
    reused_memory,
    tile_limit,
    values_per_voxel,
)


def test_a_chain_keeps_the_input_and_output_of_its_widest_layer() -> None:
    net = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.Conv3d(8, 16, 3, padding=1), nn.Conv3d(16, 2, 1))
    assert values_per_voxel(net, 1, 3) == SAFETY * 24


class Skip(nn.Module):
    """Keeps its first features until the end."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.down, self.up = nn.Conv2d(1, 8, 1), nn.Conv2d(8, 32, 2, 2), nn.ConvTranspose2d(32, 8, 2, 2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first = self.first(image)
        return torch.cat([first, self.up(self.down(first))], 1)


def test_what_a_skip_connection_keeps_counts() -> None:
    # The first 8 channels, 8 from above, 16 joined; 32 at half the resolution count as 8 a voxel.
    assert values_per_voxel(Skip(), 1, 2) == SAFETY * 32


def test_some_memory_is_free() -> None:
    assert available_bytes(torch.device("cpu")) > 1 << 20


def test_tiles_of_large_images_are_small_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medresnet3d.inferers.memory.available_bytes", lambda device: 1 << 40)
    cpu, scan = torch.device("cpu"), (512, 512, 128)
    assert tile_limit((240, 240, 155), cpu, asked_for=False) == DEFAULT_LIMIT
    assert tile_limit(scan, cpu, asked_for=False) == tile_limit((*scan[:2], 1024), cpu, asked_for=False) == LARGE_LIMIT
    assert tile_limit(scan, cpu, asked_for=True) == DEFAULT_LIMIT
    assert tile_limit(scan, torch.device("cuda"), asked_for=False) == DEFAULT_LIMIT
    monkeypatch.setattr("medresnet3d.inferers.memory.available_bytes", lambda device: 1 << 20)
    assert tile_limit(scan, cpu, asked_for=False) == 1 << 19


class Mallinfo(ctypes.Structure):
    """What glibc's mallinfo2 gives."""

    _names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = [(name, ctypes.c_size_t) for name in _names]


def malloc_state() -> Mallinfo:
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = Mallinfo
    state = mallinfo()
    assert isinstance(state, Mallinfo)
    return state


LARGE = 48 << 20


def is_mapped_anew() -> bool:
    """Whether the system gives a new mapping for a large tensor."""
    before = malloc_state().hblks
    tensor = torch.empty(LARGE, dtype=torch.uint8)
    return malloc_state().hblks > before and tensor.numel() == LARGE


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or not hasattr(ctypes.CDLL(None), "mallinfo2"),
    reason="only glibc can be told to keep memory, and since 2.33 says what it does",
)
def test_memory_is_kept_for_the_next_tensor_inside_and_given_back_after() -> None:
    """In a process of its own, whose heap holds nothing large that other tests have left."""
    command = [sys.executable, "-c", f"from {__name__} import keep_and_give_back; keep_and_give_back()"]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True, timeout=120)


def keep_and_give_back() -> None:
    assert is_mapped_anew()
    with reused_memory():
        assert not is_mapped_anew()
        with reused_memory():
            pass
        assert not is_mapped_anew()
    assert malloc_state().keepcost < LARGE
    assert is_mapped_anew()
