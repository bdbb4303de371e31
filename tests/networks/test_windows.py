from __future__ import annotations

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from medresnet3d.networks.windows import window_starts, windows


@given(st.integers(1, 60), st.data(), st.integers(2, 6))
def test_windows_reach_from_end_to_end_in_even_steps(size: int, data: st.DataObject, count: int) -> None:
    window = data.draw(st.integers(1, size))
    starts = window_starts(size, window, count)
    steps = [later - earlier for earlier, later in pairwise(starts)]
    assert (starts[0], starts[-1] + window) == (0, size)
    assert max(steps) - min(steps) <= 1
    assert window_starts(size, window, 1) == [(size - window) // 2]


def test_the_last_axis_changes_fastest_and_nothing_is_copied() -> None:
    image = torch.arange(24.0).reshape(1, 1, 4, 6)
    found = windows(image, [2, 3], 2)
    assert [float(part[0, 0, 0, 0]) for part in found] == [0, 3, 12, 15]
    found[3][0, 0, 1, 2] = -1
    assert image[0, 0, 3, 5] == -1
