from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from medresnet3d.errors import ConfigError
from medresnet3d.inferers.streams import Target
from medresnet3d.inferers.window_pass import WindowPass, pad_image
from medresnet3d.inferers.windows import importance, plan_windows

CPU = torch.device("cpu")
IMAGE = torch.randn(1, 2, 30, 21, generator=torch.Generator().manual_seed(0))
PLAN = plan_windows((30, 21), 8, 0.5)


class Device:
    """A network on a device with room for so many windows at once, and for fewer from some call on."""

    def __init__(self, room: Sequence[int]) -> None:
        self.room = list(room)
        self.computed: list[int] = []
        self.refused = 0

    def __call__(self, windows: torch.Tensor, boxes: Sequence[tuple[slice, ...]]) -> torch.Tensor:
        assert len(windows) == len(boxes)
        room = self.room.pop(0) if len(self.room) > 1 else self.room[0]
        if len(windows) > room:
            self.refused += 1
            raise torch.OutOfMemoryError("out of memory")
        self.computed.append(len(windows))
        return windows.square()


def make_pass(device: Device, batch: int) -> WindowPass:
    target = Target("logits", PLAN.image_size, (0, 0), CPU)
    return WindowPass(PLAN, importance((8, 8), "gaussian", 0.125), target, device, CPU, batch)


def test_batches_are_full() -> None:
    device = Device([4])
    outputs, _ = make_pass(device, 4).run(IMAGE)
    assert torch.allclose(outputs[0], IMAGE.square(), atol=1e-5)
    assert PLAN.count == sum(device.computed) == 35
    assert device.computed == [4] * 8 + [3]


def test_too_little_memory_halves_the_batch_once_and_repeats_nothing() -> None:
    device = Device([8] * 2 + [3])
    one = make_pass(device, 8)
    outputs, _ = one.run(IMAGE)
    assert torch.allclose(outputs[0], IMAGE.square(), atol=1e-5)
    assert sum(device.computed) == PLAN.count
    assert device.computed[:3] == [8, 8, 2]
    assert device.refused == 2  # eight at once, then four
    assert "2 windows at once" in one.notes[-1]


def test_a_single_window_that_does_not_fit_moves_the_sums_to_main_memory() -> None:
    device = Device([1, 1, 0, 1])
    one = make_pass(device, 1)
    outputs, _ = one.run(IMAGE)
    assert torch.allclose(outputs[0], IMAGE.square(), atol=1e-5)
    assert sum(device.computed) == PLAN.count
    assert one.notes == ["too little device memory: windows were added up in main memory"]


def test_a_window_that_never_fits_is_an_error_in_words() -> None:
    with pytest.raises(ConfigError, match="8 x 8 voxels does not fit into the memory of cpu"):
        make_pass(Device([0]), 2).run(IMAGE)


def test_windows_that_are_left_out_are_not_computed() -> None:
    device = Device([4])
    keep = {(0, 0), (3, 2), (3, 3)}
    outputs, _ = make_pass(device, 2).run(IMAGE, keep)
    assert device.computed == [2, 1]
    inside = torch.zeros(30, 21, dtype=torch.bool)
    for index in keep:
        inside[PLAN.slices(index)] = True
    lone = inside.clone()
    lone[PLAN.slices((3, 2))] = lone[PLAN.slices((3, 3))] = False
    assert torch.allclose(outputs[0][..., lone], IMAGE.square()[..., lone], atol=1e-5)


def test_ticks_count_every_window() -> None:
    ticks: list[int] = []
    target = Target("labels", PLAN.image_size, (0, 0), CPU)
    one = WindowPass(PLAN, None, target, Device([4]), CPU, 4, ticks.append)
    one.run(IMAGE, {(2, 2)})
    assert sum(ticks) == PLAN.count
    assert one.peak_bytes > 0


def test_padding_takes_integers_and_says_what_cannot_be() -> None:
    padded = pad_image(torch.ones(1, 1, 4, 4, dtype=torch.uint8), ((1, 0), (0, 2)), "constant", 7)
    assert padded.shape == (1, 1, 5, 6)
    assert padded.dtype == torch.uint8
    assert padded[0, 0, 0, 0] == 7
    assert pad_image(torch.ones(1, 1, 4, 4, dtype=torch.int16), ((1, 0), (0, 0)), "reflect", 0).sum() == 20
    with pytest.raises(ConfigError, match="too small to be padded by reflect"):
        pad_image(torch.ones(1, 1, 4, 4), ((9, 9), (0, 0)), "reflect", 0)
