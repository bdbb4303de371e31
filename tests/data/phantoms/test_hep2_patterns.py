"""Phantom HEp-2 cells: what each staining pattern lights up, and what says nothing of it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medresnet3d.data.phantoms.hep2_patterns import PATTERNS, draw_pattern, hep2_cell
from medresnet3d.errors import ConfigError


def measured(pattern: str, difficulty: float = 0.0) -> np.ndarray:
    """Of 20 cells: light at the middle, spread within the lit part, and the number of bright spots; means."""
    found = []
    for seed in range(20):
        light, mask = draw_pattern(np.random.default_rng([seed, 3]), pattern, 64, difficulty)
        middle = light[28:36, 28:36].mean()
        lit = light[ndimage.binary_erosion(mask, iterations=3)]
        found.append([middle, lit.std(), ndimage.label(light > 0.6 * light.max())[1]])
    return np.mean(found, axis=0)


def test_the_same_seed_draws_the_same_cell_and_its_mask_is_lit() -> None:
    for pattern in PATTERNS:
        picture, mask = hep2_cell(4, pattern, 48)
        again, _ = hep2_cell(4, pattern, 48)
        assert np.array_equal(picture, again) and picture.shape == mask.shape == (48, 48)
        assert picture.dtype == mask.dtype == np.uint8 and 0.1 < mask.mean() < 0.7
        assert picture[mask == 1].mean() > 2 * picture[mask == 0].mean(), pattern


def test_each_pattern_lights_up_what_its_name_says() -> None:
    found = {pattern: measured(pattern) for pattern in PATTERNS}
    assert found["homogeneous"][1] < min(each[1] for name, each in found.items() if name != "homogeneous")
    assert found["centromere"][2] > 15 and found["nucleolar"][2] < 6
    assert found["nuclear_membrane"][0] < 0.5 * found["homogeneous"][0]
    assert found["cytoplasmatic"][0] < 0.3 * found["homogeneous"][0]


def test_speckles_come_in_three_sizes() -> None:
    def roughness(pattern: str) -> float:
        light, mask = draw_pattern(np.random.default_rng(3), pattern, 96, 0.0)
        inner = ndimage.binary_erosion(mask, iterations=5)
        return float(np.abs(np.diff(light, axis=0))[inner[1:]].mean() / light[inner].std())

    assert 1.3 * roughness("coarse_speckled") < roughness("speckled") < roughness("fine_speckled") / 1.2


def test_weak_light_and_difficulty() -> None:
    strong, weak = (hep2_cell(1, "nucleolar", strength=strength)[0].max() for strength in (1.0, 0.3))
    assert weak < 0.5 * strong
    spread = [measured("centromere", difficulty)[1] for difficulty in (0.0, 0.5, 1.0)]
    assert spread[0] > spread[1] > spread[2] and spread[2] < 0.03


def test_what_is_unknown_is_refused() -> None:
    with pytest.raises(ConfigError, match="Staining pattern"):
        hep2_cell(0, "striped")
    with pytest.raises(ConfigError, match="difficulty is 2"):
        hep2_cell(0, "golgi", difficulty=2)
