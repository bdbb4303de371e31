from __future__ import annotations

import pytest
import torch

from medresnet3d.inferers.memory_formats import channels_last, empty_planes


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_are_innermost_by_shape_and_strides(channels: int) -> None:
    tensor = channels_last(torch.zeros(1, channels, 4, 5, 6))
    assert tensor.is_contiguous(memory_format=torch.channels_last_3d)
    assert tensor.stride() == (120 * channels, 1, 30 * channels, 6 * channels, channels)


@pytest.mark.parametrize("last", [False, True])
def test_empty_planes_have_the_memory_order_of_the_model(last: bool) -> None:
    like = torch.zeros(1, 3, 4, 5, 6, dtype=torch.bfloat16)
    like = channels_last(like) if last else like
    made = empty_planes(like, 2)
    assert made.shape == (1, 3, 2, 5, 6)
    assert made.dtype == torch.bfloat16
    assert (made.stride(1) == 1) == last
    assert empty_planes(like, 0, 7, (2, 3)).shape == (1, 7, 0, 2, 3)
