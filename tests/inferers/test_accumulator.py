from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medresnet3d.inferers.accumulator import StreamingAccumulator
from medresnet3d.inferers.windows import WindowPlan, kept_voxels, plan_windows


def accumulate(plan: WindowPlan, seed: int, skipped: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
    """Stream random windows; return the sums, those of a plain loop, how often each voxel came, and the peak memory."""
    generator = torch.Generator().manual_seed(seed)
    streamed, expected, times = (torch.zeros(1, 2, *plan.padded_size) for _ in range(3))

    def emit(start: tuple[int, ...], block: torch.Tensor) -> None:
        place = tuple(slice(first, first + size) for first, size in zip(start, block.shape[2:], strict=True))
        streamed[(..., *place)] = block
        times[(..., *place)] += 1

    accumulator = StreamingAccumulator(plan.starts, plan.roi_size, plan.order, emit, plan.paired)
    peak = 0
    for index in plan.indices():
        window = torch.randint(-9, 10, (1, 2, *plan.roi_size), generator=generator).float()
        if torch.rand((), generator=generator) < skipped:
            accumulator.add(index, None)
        else:
            expected[(..., *plan.slices(index))] += window
            accumulator.add(index, window)
        peak = max(peak, accumulator.nbytes)
    assert accumulator.nbytes == 0
    return streamed, expected, times, peak


@given(
    st.lists(st.tuples(st.integers(1, 16), st.integers(1, 7), st.floats(0, 0.9)), min_size=1, max_size=3),
    st.integers(0, 99),
    st.sampled_from([0, 0.3, 0.9]),
)
@settings(max_examples=60, deadline=None)
def test_sums_equal_those_of_a_plain_loop(axes: list[tuple[int, int, float]], seed: int, skipped: float) -> None:
    sizes, rois, overlaps = zip(*axes, strict=True)
    streamed, expected, times, _ = accumulate(plan_windows(sizes, rois, overlaps), seed, skipped)
    assert torch.equal(streamed, expected)
    assert times.max() <= 1
    assert skipped or times.min() == 1


def test_memory_does_not_grow_with_the_longest_axis() -> None:
    peaks = [accumulate(plan_windows((length, 24, 20), 8, 0.5), 0, 0)[3] for length in (32, 64, 128)]
    assert peaks[0] == peaks[1] == peaks[2]
    # One overlap's layer along each axis: thickness 4, then 8 and 8 * 8 voxels of the window before it.
    assert peaks[0] <= 2 * 4 * (4 * 24 * 20 + 8 * 4 * 20 + 8 * 8 * 4)


@given(
    st.lists(st.tuples(st.integers(8, 20), st.integers(2, 7), st.floats(0, 0.9)), min_size=1, max_size=3),
    st.integers(0, 99),
    st.sampled_from([0, 0.3, 0.9]),
)
@settings(max_examples=60, deadline=None)
def test_windows_that_take_turns_give_the_same_sums(
    axes: list[tuple[int, int, float]], seed: int, skipped: float
) -> None:
    sizes, rois, overlaps = zip(*axes, strict=True)
    plan = replace(plan_windows(sizes, rois, overlaps, first_axis=0), paired=True)
    streamed, expected, times, _ = accumulate(plan, seed, skipped)
    assert torch.equal(streamed, expected)
    assert times.max() <= 1
    assert skipped or times.min() == 1


def test_a_last_window_that_overlaps_by_nearly_all_costs_no_thick_layer() -> None:
    plan = plan_windows((65, 40, 40), 16, 0.25, first_axis=0)
    assert plan.paired
    paired, unpaired = (accumulate(one, 0, 0)[3] for one in (plan, replace(plan, paired=False)))
    assert unpaired > 2 * 4 * 11 * 40 * 40
    assert paired < 0.7 * unpaired


def test_what_is_kept_was_reckoned() -> None:
    for size in (60, 61, 65, 70):
        plan = plan_windows((size, 40, 36), 16, 0.25, first_axis=0)
        for paired in (False, True):
            one = replace(plan, paired=paired)
            reckoned = kept_voxels(one.padded_size, one.starts, one.roi_size, one.order, paired)
            peak = accumulate(one, 0, 0)[3] / (2 * 4)
            assert 0.8 * reckoned <= peak <= 1.05 * reckoned


def test_nothing_is_kept_without_overlap() -> None:
    assert accumulate(plan_windows((32, 16), 8, 0), 0, 0)[3] == 0


def test_skipped_parts_take_no_memory() -> None:
    plan = plan_windows((40, 40), 8, 0.5)
    accumulator = StreamingAccumulator(plan.starts, plan.roi_size, plan.order, lambda start, block: None, plan.paired)
    for index in plan.indices():
        accumulator.add(index, None)
    assert accumulator.nbytes == 0


def test_sums_can_move_while_they_grow() -> None:
    plan = plan_windows((20, 12), 8, 0.5)
    total = []
    accumulator = StreamingAccumulator(
        plan.starts, plan.roi_size, plan.order, lambda start, b: total.append(b.sum()), plan.paired
    )
    for number, index in enumerate(plan.indices()):
        if number == 3:
            accumulator.to(torch.device("cpu"))
        accumulator.add(index, torch.ones(1, 1, 8, 8))
    assert np.isclose(sum(map(float, total)), plan.count * 64)
