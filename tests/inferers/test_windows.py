from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import dense_patch_slices

from medresnet3d.errors import ConfigError
from medresnet3d.inferers.windows import (
    axis_starts,
    covered_voxels,
    full_roi,
    importance,
    kept_voxels,
    per_axis,
    plan_windows,
)

AXIS = st.tuples(st.integers(1, 40), st.integers(1, 20), st.sampled_from([0, 0.1, 0.25, 0.5, 0.8, 0.99]))


@given(st.lists(AXIS, min_size=2, max_size=3))
@settings(max_examples=50, deadline=None)
def test_grid_is_that_of_monai(axes: list[tuple[int, int, float]]) -> None:
    sizes, rois, overlaps = zip(*axes, strict=True)
    plan = plan_windows(sizes, rois, overlaps)
    steps = [
        roi if roi == size else max(int(roi * (1 - share)), 1)
        for size, roi, share in zip(plan.padded_size, rois, overlaps, strict=True)
    ]
    expected = [tuple(part.start for part in window) for window in dense_patch_slices(plan.padded_size, rois, steps)]
    assert sorted(expected) == sorted(plan.corner(index) for index in plan.indices())
    assert plan.count == len(expected)


def test_windows_cover_every_voxel_and_stay_inside() -> None:
    plan = plan_windows((37, 20), (16, 8), 0.3)
    seen = np.zeros(plan.padded_size, int)
    for index in plan.indices():
        seen[plan.slices(index)] += 1
    assert seen.min() == 1


def test_windows_at_the_end_take_turns_where_they_overlap_by_more_than_the_others() -> None:
    # Along the longer axis the last window starts one voxel after the one before it.
    plan = plan_windows((97, 40), 16, 0.5, first_axis=0)
    assert plan.paired
    along = [plan.corner(index)[0] for index in plan.indices()]
    assert along[-8:] == [80, 81] * 4
    assert sorted(along[:-8]) == along[:-8]
    assert not plan_windows((96, 40), 16, 0.5, first_axis=0).paired


def test_order_is_that_which_keeps_least() -> None:
    for size in (95, 96, 97, 103):
        plan = plan_windows((size, 40, 44), 16, 0.25)
        all_axes = (plan.padded_size, plan.starts, plan.roi_size)
        least = min(kept_voxels(*all_axes, order, False) for order in itertools.permutations(range(3)))
        assert kept_voxels(*all_axes, plan.order, plan.paired) <= least


def test_longest_axis_is_the_outermost_loop() -> None:
    assert plan_windows((20, 50, 30), 10).order == (1, 2, 0)
    assert plan_windows((20, 50, 30), 10, first_axis=0).order == (0, 1, 2)
    corners = [plan_windows((20, 50, 30), 10).corner(index)[1] for index in plan_windows((20, 50, 30), 10).indices()]
    assert corners == sorted(corners)


def test_small_image_is_padded_on_both_sides_as_monai_does() -> None:
    plan = plan_windows((5, 30), (8, 10), 0)
    assert plan.padded_size == (8, 30)
    assert plan.padding == ((1, 2), (0, 0))


def test_roi_below_one_is_the_whole_axis() -> None:
    assert full_roi((8, -1, 0), (20, 30, 40)) == (8, 30, 40)
    assert axis_starts(30, 30, 0.5) == (0,)


@pytest.mark.parametrize("overlap", [-0.1, 1, 1.5])
def test_overlap_outside_its_range_is_refused(overlap: float) -> None:
    with pytest.raises(ConfigError, match="overlap"):
        plan_windows((20, 20), 8, overlap)


def test_wrong_number_of_values_is_refused() -> None:
    with pytest.raises(ConfigError, match="roi_size has 2 values"):
        plan_windows((20, 20, 20), (8, 8))
    assert per_axis(0.5, 3, "overlap") == (0.5, 0.5, 0.5)


def test_weights_are_positive_and_largest_in_the_middle() -> None:
    weights = importance((7, 9), "gaussian", 0.125)
    assert weights.shape == (1, 1, 7, 9)
    assert weights.min() > 0
    assert weights.argmax() == 3 * 9 + 4
    assert torch.equal(importance((3, 3), "constant", 0.125), torch.ones(1, 1, 3, 3))


@given(st.lists(AXIS, min_size=2, max_size=2), st.integers(0, 2**16))
@settings(max_examples=40, deadline=None)
def test_covered_voxels_are_counted(axes: list[tuple[int, int, float]], seed: int) -> None:
    sizes, rois, overlaps = zip(*axes, strict=True)
    plan = plan_windows(sizes, rois, overlaps)
    chosen = [index for index in plan.indices() if np.random.default_rng([seed, *index]).random() < 0.4]
    seen = np.zeros(plan.padded_size, bool)
    for index in chosen:
        seen[plan.slices(index)] = True
    inside = tuple(slice(before, before + size) for (before, _), size in zip(plan.padding, sizes, strict=True))
    assert covered_voxels(plan, chosen) == seen[inside].sum()


def test_indices_are_all_of_the_grid() -> None:
    plan = plan_windows((30, 20, 25), 10, 0.5)
    expected = itertools.product(*(range(len(starts)) for starts in plan.starts))
    assert sorted(plan.indices()) == sorted(expected)
