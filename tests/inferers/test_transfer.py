from __future__ import annotations

import pytest
import torch

from medresnet3d.inferers.transfer import HostWriter, batches, gather

IMAGE = torch.arange(2 * 12 * 10.0).view(1, 2, 12, 10)
STEPS = [
    [(slice(0, 4), slice(0, 5)), (slice(4, 8), slice(5, 10))],
    [(slice(8, 12), slice(0, 5)), (slice(8, 12), slice(5, 10))],
    [(slice(2, 6), slice(3, 8))],
]


def test_one_window_is_a_view_and_several_are_a_batch() -> None:
    assert gather(IMAGE, STEPS[2]).data_ptr() == IMAGE[:, :, 2:, 3:].data_ptr()
    assert torch.equal(gather(IMAGE, STEPS[0])[1], IMAGE[0, :, 4:8, 5:10])


def check(device: torch.device) -> None:
    found = list(batches(IMAGE, STEPS, device))
    assert len(found) == 3
    for windows, boxes in zip(found, STEPS, strict=True):
        assert windows.device.type == device.type
        assert torch.equal(windows.cpu(), gather(IMAGE, boxes))
    assert list(batches(IMAGE, [], device)) == []


def test_batches_arrive_in_order() -> None:
    check(torch.device("cpu"))


def test_block_is_written_at_once_on_the_same_device() -> None:
    target, writer = torch.zeros(4, 4), HostWriter()
    writer.write(target[1:3], torch.ones(2, 4))
    assert target.sum() == 8
    writer.finish()
    assert target.sum() == 8


@pytest.mark.gpu
def test_batches_arrive_in_order_on_a_gpu() -> None:
    check(torch.device("cuda"))


@pytest.mark.gpu
def test_blocks_come_back_from_a_gpu() -> None:
    target, writer = torch.zeros(6, 4), HostWriter()
    for row in range(6):
        writer.write(target[row], torch.full((4,), float(row), device="cuda"))
    writer.finish()
    assert torch.equal(target, torch.arange(6.0)[:, None].expand(6, 4))
