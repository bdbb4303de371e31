from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medresnet3d.data.phantoms.brain import brain_phantom
from medresnet3d.errors import DataError
from medresnet3d.transforms.brain_mask import background_level, brain_mask, head_signs

BRAIN = brain_phantom(0, 64).image.astype(np.float32)
BODY = BRAIN > 0
RNG = np.random.default_rng(0)


def z_score(volume: np.ndarray, outside: float | None = None) -> np.ndarray:
    inside = volume[volume > 0]
    scaled = (volume - inside.mean()) / inside.std()
    return scaled if outside is None else np.where(volume > 0, scaled, outside)


STRIPPED = {
    "as it is": BRAIN,
    "from 0 to 1": BRAIN / BRAIN.max(),
    "z-score, air negative": z_score(BRAIN),
    "z-score, air zero": z_score(BRAIN, 0.0),
    "dark fluid": BRAIN**1.7,
    "blurred": ndimage.gaussian_filter(BRAIN, 1.0),
    "noise everywhere": BRAIN + 60 * RNG.standard_normal(BRAIN.shape),
    "field": BRAIN * np.linspace(0.6, 1.4, 64, dtype=np.float32)[:, None, None],
    "other orientation": BRAIN.transpose(2, 0, 1)[::-1],
    "cropped tightly": BRAIN[ndimage.find_objects(BODY.astype(int))[0]],
}


@pytest.mark.parametrize("name", STRIPPED)
def test_a_stripped_brain_passes_with_a_margin(name: str) -> None:
    signs = head_signs(STRIPPED[name], (1, 1, 1))
    assert not signs.whole_head
    assert signs.rim_ratio > 0.75


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("air", [0.0, 20.0])
@pytest.mark.parametrize("turned", [False, True])
def test_a_whole_head_is_recognised_with_a_margin(seed: int, air: float, turned: bool) -> None:
    head = brain_phantom(seed, 64, head=True, background=air).image.astype(np.float32)
    signs = head_signs(head.transpose(2, 0, 1)[::-1] if turned else head, (2.5, 2.5, 2.5))
    assert signs.whole_head
    assert signs.rim_ratio < 0.45
    assert head_signs(z_score(head), (1, 1, 1)).whole_head


@pytest.mark.parametrize("scalp", [0.5, 1.0, 1.6])
def test_scalp_of_any_brightness_over_a_dark_skull_is_a_head(scalp: float) -> None:
    distance = ndimage.distance_transform_edt(~BODY)
    head = np.where(BODY, BRAIN, np.where(distance <= 3, 80, np.where(distance <= 7, scalp * 1000, 0)))
    assert head_signs(head, (1, 1, 1)).rim_ratio < 0.5


def test_a_body_larger_than_any_brain_is_a_head_whatever_its_profile() -> None:
    assert not head_signs(BRAIN, (3, 3, 3)).whole_head
    assert head_signs(BRAIN, (5, 5, 5)).whole_head


@pytest.mark.parametrize("head", [False, True])
def test_a_large_scan_is_looked_at_on_a_coarser_grid_and_judged_alike(head: bool) -> None:
    image = brain_phantom(0, 64, head=head).image.astype(np.float32)
    fine = head_signs(image, (2.5, 2.5, 2.5))
    large = image.repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)
    coarse = head_signs(large, (1.25, 1.25, 1.25))
    assert coarse.whole_head == fine.whole_head == head
    assert coarse.litres == pytest.approx(fine.litres, rel=0.02)
    assert coarse.rim_ratio == pytest.approx(fine.rim_ratio, abs=0.05)


@pytest.mark.parametrize("name", ["as it is", "from 0 to 1", "z-score, air negative"])
def test_mask_is_exact_where_the_air_is_constant(name: str) -> None:
    assert np.array_equal(brain_mask(STRIPPED[name]), ndimage.binary_fill_holes(BODY))


def test_mask_misses_only_voxels_that_look_like_air() -> None:
    mask = brain_mask(STRIPPED["z-score, air zero"])
    assert not (mask & ~BODY).any()
    assert (BODY & ~mask).sum() < 0.001 * BODY.sum()


def test_mask_is_close_where_the_air_is_noise() -> None:
    mask = brain_mask(STRIPPED["noise everywhere"])
    assert 2 * (mask & BODY).sum() / (mask.sum() + BODY.sum()) > 0.95


def test_level_and_noise_of_the_air() -> None:
    assert background_level(BRAIN - 100) == (-100.0, 0.0)
    level, noise = background_level(500 + 10 * RNG.standard_normal((64, 64, 64)))
    assert level == pytest.approx(500, abs=1)
    assert noise == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize("volume", [np.zeros((8, 8, 8)), np.full((8, 8, 8), 7.0), np.full((8, 8, 8), np.nan)])
def test_an_empty_image_is_refused_in_words(volume: np.ndarray) -> None:
    with pytest.raises(DataError, match="skull-stripped"):
        brain_mask(volume)


def test_a_speck_is_no_brain() -> None:
    volume = np.zeros((32, 32, 32))
    volume[5:8, 5:8, 5:8] = 1
    with pytest.raises(DataError, match="no brain"):
        brain_mask(volume)
