from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from medresnet3d.networks.candidates import find_peaks, paint_candidates, sample_cubes


@pytest.mark.parametrize("dims", [2, 3])
def test_peaks_are_the_largest_of_their_boxes_in_order(dims: int) -> None:
    score = torch.rand(2, *[17, 15, 13][:dims], generator=torch.Generator().manual_seed(0))
    centres, values = find_peaks(score, 6, 2)
    for image, places, found in zip(score, centres, values, strict=True):
        largest = torch.from_numpy(ndimage.maximum_filter(image.numpy(), size=5, mode="nearest"))
        expected = image[image == largest].sort(descending=True).values[:6]
        assert torch.equal(found, expected)
        assert torch.equal(image[tuple(places.T)], expected)


def test_where_a_map_has_fewer_peaks_the_rest_is_minus_infinity() -> None:
    score = torch.zeros(1, 9, 9)
    score[0, 2, 3], score[0, 7, 7] = 2.0, 1.0
    score -= torch.arange(81).reshape(9, 9) * 1e-3  # no plateau: the rest falls away towards the end
    centres, values = find_peaks(score, 40, 3)
    assert centres[0, 0].tolist() == [2, 3]
    assert int(torch.isfinite(values).sum()) < 40 and values[0, -1] == -torch.inf
    assert find_peaks(score, 1000, 1)[1].shape == (1, 81)


@given(edge=st.sampled_from([4.0, 8.0, 12.0]), shift=st.integers(-2, 2), dims=st.sampled_from([2, 3]))
def test_cubes_of_a_linear_ramp_are_a_ramp_of_their_own_step(edge: float, shift: int, dims: int) -> None:
    ramp = torch.arange(40.0).reshape(-1, *[1] * (dims - 1)).expand(*[40] * dims)
    centre = torch.full((1, 2, dims), 19 + shift)
    cubes = sample_cubes(ramp[None, None], centre, [edge], 8)
    assert cubes.shape == (1, 2, 1, *[8] * dims)
    expected = 19 + shift + edge * ((torch.arange(8) + 0.5) / 8 - 0.5)
    assert torch.allclose(cubes[0, 1, 0], expected.reshape(-1, *[1] * (dims - 1)).expand(*[8] * dims), atol=1e-4)


def test_a_cube_of_the_image_s_own_voxels_is_a_crop_and_what_lies_outside_is_zero() -> None:
    image = torch.rand(1, 1, 12, 14, 16, generator=torch.Generator().manual_seed(1)) + 1
    cube = sample_cubes(image, torch.tensor([[[6.5, 6.5, 6.5], [0.5, 6.5, 6.5]]]), [4.0], 4)[0, :, 0]
    torch.testing.assert_close(cube[0], image[0, 0, 5:9, 5:9, 5:9])
    torch.testing.assert_close(cube[1, 1:], image[0, 0, 0:3, 5:9, 5:9])
    assert not cube[1, 0].any()


def test_scales_come_one_after_the_other() -> None:
    image = torch.rand(1, 2, 20, 20, generator=torch.Generator().manual_seed(2))
    centre = torch.tensor([[[9, 9]]])
    both = sample_cubes(image, centre, [4.0, 8.0], 4)
    assert torch.equal(both, torch.cat([sample_cubes(image, centre, [edge], 4) for edge in (4.0, 8.0)], 2))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_candidate_fills_its_part_of_the_mask_and_no_other(dims: int) -> None:
    mask = torch.zeros(*[20] * dims, dtype=torch.bool)
    mask[(slice(3, 7),) * dims] = True  # around the candidate
    mask[(slice(9, 12),) * dims] = True  # near, but apart
    painted = paint_candidates(mask[None], torch.full((1, 1, dims), 5), torch.tensor([[0.7]]), 8)[0]
    expected = torch.zeros(*[20] * dims)
    expected[(slice(3, 7),) * dims] = 0.7
    assert torch.equal(painted, expected)


def test_an_empty_mask_leaves_the_direct_neighbours_and_a_border_is_no_trouble() -> None:
    painted = paint_candidates(
        torch.zeros(1, 6, 6, dtype=torch.bool), torch.tensor([[[0, 3], [4, 4]]]), torch.tensor([[0.5, 0.9]]), 4
    )[0]
    cross = torch.zeros(6, 6)
    for i, j in ((0, 3), (1, 3), (0, 2), (0, 4)):
        cross[i, j] = 0.5
    for i, j in ((4, 4), (3, 4), (5, 4), (4, 3), (4, 5)):
        cross[i, j] = 0.9
    assert torch.equal(painted, cross)


def test_where_two_reach_one_voxel_the_larger_counts_and_the_reach_ends() -> None:
    mask = torch.zeros(1, 3, 30, dtype=torch.bool)
    mask[0, 1] = True
    painted = paint_candidates(mask, torch.tensor([[[1, 10], [1, 14]]]), torch.tensor([[0.3, 0.6]]), 3)[0, 1]
    expected = torch.zeros(30)
    expected[7:14] = 0.3
    expected[11:18] = 0.6
    assert torch.equal(painted, expected)


def test_all_steps_run_on_shapes_alone() -> None:
    """So that they are traced, and the memory that they take is reckoned, without an image."""
    image = torch.empty(2, 1, 16, 16, 16, device="meta")
    centres, values = find_peaks(image[:, 0], 5, 2)
    assert sample_cubes(image, centres, [8.0, 4.0], 6).shape == (2, 5, 2, 6, 6, 6)
    assert paint_candidates(image[:, 0] > 0, centres, values, 3).shape == (2, 16, 16, 16)
