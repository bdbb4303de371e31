from __future__ import annotations

import platform
import resource

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


def new_pages(blocks: int) -> int:
    """How many pages of memory the system has to make for some large tensors, one after the other."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(blocks):
        torch.zeros(48 << 18).add_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep memory")
def test_freed_memory_is_taken_again_inside_and_given_back_after() -> None:
    usual = new_pages(8)
    with reused_memory():
        new_pages(2)
        with reused_memory():
            pass
        inside = new_pages(8)
    assert inside < usual / 4
    assert new_pages(8) > usual / 2
