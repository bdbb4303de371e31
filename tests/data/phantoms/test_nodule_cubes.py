from __future__ import annotations

import numpy as np
import pytest

from medresnet3d.data.phantoms.nodule_cubes import CUBE_KINDS, DISTRACTORS, nodule_cube
from medresnet3d.errors import ConfigError


@pytest.mark.parametrize("kind", CUBE_KINDS)
def test_every_kind(kind: str) -> None:
    cube, mask = nodule_cube(3, kind)
    assert cube.shape == mask.shape == (32, 32, 32)
    assert cube.dtype == np.int16 and mask.dtype == np.uint8
    again, _ = nodule_cube(3, kind)
    np.testing.assert_array_equal(cube, again)
    assert bool(mask.any()) == (kind not in DISTRACTORS)
    assert np.percentile(cube, 5) < -750, "there is lung around it"
    assert cube[12:20, 12:20, 12:20].max() > -450, "and something in the middle"


def test_mask_has_the_asked_diameter_and_size_follows_spacing() -> None:
    _, mask = nodule_cube(1, "solid_smooth", 48, spacing=0.5, diameter_mm=10.0)
    assert mask.shape == (48, 48, 48)
    assert mask.sum() * 0.5**3 == pytest.approx(np.pi / 6 * 10**3, rel=0.04)


def test_solid_and_ground_glass_differ_in_hu() -> None:
    def inside(kind: str) -> float:
        return float(np.median([np.median(cube[mask > 0]) for cube, mask in (nodule_cube(s, kind) for s in range(6))]))

    assert -50 < inside("solid_smooth") < 100
    assert -650 < inside("ground_glass_smooth") < -300


def test_unknown_kind_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="solid_spiculated"):
        nodule_cube(0, "cyst")
