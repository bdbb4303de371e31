from __future__ import annotations

import zlib

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medresnet3d.reports.packing import CT_KNOTS, GreySteps, Grid, pack


def unpack(data: bytes, shape: tuple[int, int, int], smooth: bool) -> NDArray[np.uint8]:
    """Undo the packing voxel by voxel, as the page's script does."""
    i, j, k = shape
    codes = np.frombuffer(zlib.decompress(data), dtype=np.uint8).reshape(k, j, i).copy()
    if smooth:
        for row in range(j):
            above = codes[:, row - 1].astype(int) if row else np.zeros((k, i), dtype=int)
            left = np.zeros(k, dtype=int)
            for column in range(i):
                left = (codes[:, row, column] + ((left + above[:, column]) >> 1)) & 255
                codes[:, row, column] = left
    return codes.transpose(2, 1, 0)


@given(shape=st.tuples(*[st.integers(1, 9)] * 3), seed=st.integers(0, 99), smooth=st.booleans())
@settings(max_examples=40, deadline=None)
def test_packed_codes_come_back(shape: tuple[int, int, int], seed: int, smooth: bool) -> None:
    codes = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    data = pack((codes[:, :, k].T for k in range(shape[2])), smooth)
    np.testing.assert_array_equal(unpack(data, shape, smooth), codes)


def test_smooth_images_take_less_room_than_their_codes() -> None:
    i, j, _ = np.indices((64, 64, 4))
    smooth = 120 + 60 * np.sin(i / 9) * np.cos(j / 7) + np.random.default_rng(0).normal(size=i.shape)
    codes = smooth.astype(np.uint8)
    slices = [codes[:, :, k].T for k in range(4)]
    assert len(pack(slices, smooth=True)) < 0.7 * len(pack(slices, smooth=False))


@pytest.mark.parametrize(
    ("low", "high", "step"), [(0, 80, 1.6), (-160, 240, 4.0), (-1000, -200, 12.0), (300, 1400, 30.0)]
)
def test_ct_is_finest_where_windows_are_narrow(low: float, high: float, step: float) -> None:
    steps = GreySteps.for_ct()
    units = np.arange(low, high, 0.5, dtype=np.float32)
    shown = np.asarray(steps.values())[steps.encode(units)]
    assert np.abs(shown - units).max() <= step / 2 + 1e-3
    beyond = np.array([-3024, CT_KNOTS[0], CT_KNOTS[-1], 9000, np.nan])
    assert steps.encode(beyond).tolist() == [0, 0, 255, 255, 0]


@given(low=st.floats(-1e4, 1e4), spread=st.floats(1e-2, 1e5), start=st.floats(0, 1), share=st.floats(0.01, 1.0))
@settings(max_examples=60, deadline=None)
def test_values_survive_to_a_fraction_of_the_window(low: float, spread: float, start: float, share: float) -> None:
    """Steps rise, and inside the window no value is off by more than a hundredth of it."""
    high = low + spread
    window = (low + start * (1 - share) * spread, low + (start * (1 - share) + share) * spread)
    steps = GreySteps.for_values(low, high, window, whole=False)
    values = np.asarray(steps.values())
    assert (np.diff(values) >= 0).all()
    inside = np.linspace(*window, 50)
    off = np.abs(values[steps.encode(inside)] - inside).max()
    assert off <= 0.01 * (window[1] - window[0]) + 1e-4 * max(abs(low), abs(high))


def test_up_to_256_whole_values_are_kept() -> None:
    steps = GreySteps.for_values(-20.0, 235.0, (0.0, 100.0), whole=True)
    numbers = np.arange(-20, 236)
    assert np.asarray(steps.values())[steps.encode(numbers)].tolist() == numbers.tolist()


def test_one_value_everywhere_is_no_error() -> None:
    steps = GreySteps.for_values(3.5, 3.5, (3.5, 4.5), whole=False)
    assert steps.values()[0] == pytest.approx(3.5)


@given(
    source=st.tuples(*[st.integers(1, 80)] * 3), spacing=st.tuples(*[st.floats(0.2, 6.0)] * 3),
    most=st.integers(8, 60_000),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_a_grid_fits_and_covers_the_same_box(
    source: tuple[int, int, int], spacing: tuple[float, float, float], most: int
) -> None:
    grid = Grid.within(source, spacing, most)
    assert grid.size <= most and all(0 < own <= n for own, n in zip(grid.shape, source, strict=True))
    affine = np.diag([*spacing, 1.0])
    corners = np.array(list(np.ndindex(2, 2, 2)))
    for own, of in ((grid.affine(affine), grid.shape), (affine, source)):
        box = nib.affines.apply_affine(own, corners * np.asarray(of) - 0.5)
        np.testing.assert_allclose(box[-1] - box[0], np.asarray(source) * spacing, rtol=1e-6)
        np.testing.assert_allclose(box[0], -0.5 * np.asarray(spacing), atol=1e-6)


def test_the_finest_axes_are_coarsened_first() -> None:
    grid = Grid.within((512, 512, 40), (0.5, 0.5, 5.0), 512 * 512 * 10)
    assert grid.shape[:2] == (256, 256) and grid.shape[2] == 40
    assert not Grid.within((10, 10, 10), (1, 1, 1), 1000).reduced


def test_a_coarse_voxel_is_the_mean_of_what_it_covers() -> None:
    array = np.random.default_rng(0).normal(size=(12, 10, 9)).astype(np.float32)
    grid = Grid((12, 10, 9), (6, 5, 3))
    coarse = np.stack([one.T for one in grid.image(array)], axis=-1)
    expected = array.reshape(6, 2, 5, 2, 3, 3).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(coarse, expected, atol=1e-5)
    (chosen,) = grid.image(array, [2])
    np.testing.assert_allclose(chosen.T, expected[:, :, 2], atol=1e-5)
    uneven = np.stack([one.T for one in Grid((12, 10, 9), (7, 4, 2)).image(array)], axis=-1)
    assert uneven.mean() == pytest.approx(array.mean(), abs=1e-4)


def test_a_coarse_label_is_one_that_is_there() -> None:
    labels = np.random.default_rng(0).integers(0, 5, (12, 10, 9))
    coarse = np.stack([one.T for one in Grid((12, 10, 9), (4, 5, 3)).labels(labels)], axis=-1)
    np.testing.assert_array_equal(coarse, labels[1::3, 1::2, 1::3])
