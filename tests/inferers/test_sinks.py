from __future__ import annotations

import pytest
import torch

from medresnet3d.errors import ConfigError
from medresnet3d.inferers.sinks import Sink, answer_logits, argmax, label_dtype

CPU = torch.device("cpu")


def test_smallest_label_type() -> None:
    assert [label_dtype(n) for n in (1, 256, 257, 32768, 32769)] == [
        torch.uint8,
        torch.uint8,
        torch.int16,
        torch.int16,
        torch.int32,
    ]


@pytest.mark.parametrize("channels", [2, 5, 14])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_argmax_is_that_of_torch_for_any_part_of_a_block(channels: int, layout: torch.memory_format) -> None:
    values = torch.randn(1, channels, 9, 8, 7, generator=torch.Generator().manual_seed(0))
    values = values.contiguous(memory_format=layout)[:, :, 1:6, :, 2:5]
    assert torch.equal(argmax(values).long(), values.argmax(1, keepdim=True))


def test_equal_sums_get_the_first_class_and_one_channel_is_cut_at_zero() -> None:
    assert (argmax(torch.ones(1, 4, 3, 3)) == 0).all()
    assert argmax(torch.tensor([[[-1.0, 0.0, 2.0]]])).flatten().tolist() == [0, 0, 1]


def test_blocks_land_where_they_belong_and_padding_is_cut_off() -> None:
    sink = Sink("logits", 1, (4, 5), (-1, 2), CPU)
    sink.write((0, 0), torch.arange(12.0).view(1, 1, 3, 4))
    sink.write((6, 0), torch.ones(1, 1, 2, 2))
    found = sink.finish()
    assert torch.equal(found[0, 0, :2, 2:], torch.tensor([[4.0, 5, 6], [8, 9, 10]]))


def test_sums_are_divided_by_their_weights() -> None:
    sink = Sink("logits", 2, (2, 1), (0, 0), CPU, partial=True, answer=1)
    sink.write((0, 0), torch.full((1, 2, 2, 1), 6.0), torch.tensor([3.0, 0]).view(1, 1, 2, 1))
    assert sink.finish()[0, :, :, 0].tolist() == [[2, 0], [2, 20]]


def test_answers_for_what_is_left_out() -> None:
    assert answer_logits(3, 1).tolist() == [0, 20, 0]
    assert answer_logits(3, None).tolist() == [-20, -20, -20]
    assert [answer_logits(1, answer).item() for answer in (0, 1, None)] == [-20, 20, -20]
    assert (Sink("labels", 3, (2, 2), (0, 0), CPU, answer=2, partial=True).finish() == 2).all()
    probabilities = Sink("probabilities", 3, (1, 1), (0, 0), CPU, answer=2, partial=True).finish()
    assert probabilities.flatten().tolist() == pytest.approx([0, 0, 1], abs=1e-6)
    with pytest.raises(ConfigError, match="empty_answer is 3 but the network has 3"):
        Sink("labels", 3, (2, 2), (0, 0), CPU, answer=3)
