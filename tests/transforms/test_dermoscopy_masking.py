from __future__ import annotations

import pickle
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms import Compose

from medresnet3d.data.phantoms.pictures import skin
from medresnet3d.errors import ConfigError
from medresnet3d.transforms.dermoscopy_masking import (
    RandCoverSquares,
    RandCoverSquaresd,
    RandCoverSurroundings,
    RandCoverSurroundingsd,
    lesion_mask,
    skin_colour,
)

TRUTH = skin(96, hairs=5, seed=4)


def covered(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return (before != after).any(0)


def test_the_lesion_is_found_below_hairs() -> None:
    found = lesion_mask(TRUTH.picture)
    assert 2 * (found & TRUTH.lesion).sum() / (found.sum() + TRUTH.lesion.sum()) > 0.9
    assert not lesion_mask(np.full((3, 20, 20), 90, np.uint8)).any()


def test_the_colour_is_that_of_skin() -> None:
    colour = skin_colour(TRUTH.picture, TRUTH.lesion)
    np.testing.assert_allclose(colour / 255, [0.72, 0.55, 0.48], atol=0.02)


@settings(max_examples=30, deadline=None)
@given(
    area=st.tuples(st.floats(0.05, 0.3), st.floats(0.3, 0.6)),
    shape=st.tuples(st.integers(24, 60), st.integers(24, 60)),
    seed=st.integers(0, 1000),
)
def test_squares_cover_what_was_asked(area: tuple[float, float], shape: tuple[int, int], seed: int) -> None:
    squares = RandCoverSquares(1.0, area).set_random_state(seed)
    squares.randomize(np.zeros((3, *shape)))
    share = squares.cover.mean()
    assert area[0] <= share <= area[1] + 1 / np.prod(shape)


def test_squares_get_the_colour_of_skin_and_the_rest_stays() -> None:
    squares = RandCoverSquares(1.0).set_random_state(0)
    result = squares(TRUTH.picture)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result[:, ~squares.cover], TRUTH.picture[:, ~squares.cover])
    assert (np.ptp(result[:, squares.cover], axis=1) == 0).all()


@pytest.mark.parametrize("mode", ["outside", "cells", "half_plane"])
def test_the_lesion_is_never_covered(mode: str) -> None:
    surroundings = RandCoverSurroundings(1.0, [mode], margin=0.03).set_random_state(1)
    shares = []
    for _ in range(8):
        result = surroundings(TRUTH.picture, TRUTH.lesion[None])
        np.testing.assert_array_equal(result[:, TRUTH.lesion], TRUTH.picture[:, TRUTH.lesion])
        shares.append(surroundings.cover.mean())
    assert all(0.05 < share < 1 for share in shares)
    assert (np.ptp(shares) > 0) == (mode != "outside")


def test_a_watermark_in_the_corner_no_longer_decides() -> None:
    """The toy of the system's own proof: a mark beside the lesion goes, the lesion's own colour stays."""
    marked = [TRUTH.picture.copy() for _ in range(2)]
    marked[1][:, 3:12, 3:12] = 255
    surroundings = RandCoverSurroundings(1.0, ["outside"])
    plain, other = (surroundings(each, TRUTH.lesion[None]) for each in marked)
    assert np.abs(plain.astype(int) - other).max() <= 3  # the mean colour of skin moves a little
    assert np.abs(marked[0].astype(int) - marked[1]).max() > 100


def test_where_there_is_no_lesion_nothing_is_covered() -> None:
    plain = np.full((3, 20, 20), 90, np.uint8)
    np.testing.assert_array_equal(RandCoverSurroundings(1.0)(plain), plain)


def chains() -> Sequence[Compose]:
    squares = RandCoverSquaresd("image", prob=0.5)
    surroundings = RandCoverSurroundingsd("image", mask_key="mask", prob=0.5)
    return [Compose([squares]), Compose([surroundings])]


@pytest.mark.parametrize("index", [0, 1])
def test_dictionary_versions_are_seeded_act_sometimes_and_leave_the_mask(index: int) -> None:
    chain = chains()[index]
    item = {"image": torch.as_tensor(TRUTH.picture), "mask": TRUTH.lesion[None], "label": 1}
    runs = []
    for each in (chain, pickle.loads(pickle.dumps(chain))):
        each.set_random_state(7)
        runs.append([each(item) for _ in range(20)])
    changed = [not torch.equal(each["image"], item["image"]) for each in runs[0]]
    assert 3 < sum(changed) < 17
    for one, other in zip(*runs, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert one["mask"] is item["mask"] and one["label"] == 1


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="increasing shares"):
        RandCoverSquares(area=(0.5, 0.2))
    with pytest.raises(ConfigError, match="use outside, cells, half_plane"):
        RandCoverSurroundings(modes=["inside"])
