from __future__ import annotations

import numpy as np
import pytest

from medresnet3d.data.phantoms.pictures import blood_smear, fundus, hep2_cell, mammogram, skin


def test_a_seed_gives_the_same_picture_and_another_another() -> None:
    makers = [
        lambda seed: skin(64, seed=seed).picture,
        lambda seed: mammogram((60, 80), seed=seed).film,
        lambda seed: fundus((60, 50), seed=seed).picture,
        lambda seed: hep2_cell(32, seed=seed),
        lambda seed: blood_smear(32, seed=seed),
    ]
    for make in makers:
        np.testing.assert_array_equal(make(1), make(1))
        assert (make(1) != make(2)).any()


def test_the_masks_are_where_the_picture_says() -> None:
    mole = skin(96, hairs=6)
    assert mole.picture[:, mole.hairs].mean() < 0.6 * mole.bare[:, mole.hairs].mean()
    assert mole.bare[:, mole.lesion].mean() < 0.6 * mole.bare[:, ~mole.lesion].mean()
    film = mammogram()
    assert film.film[0][film.muscle].mean() > 1.5 * film.film[0][film.breast & ~film.muscle].mean()
    eye = fundus()
    assert eye.picture[:, ~eye.disc].mean() < 0.05 * eye.picture[:, eye.disc].mean()
    assert not (eye.vessels & ~eye.disc).any()


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_chest_wall_is_at_the_side(side: str) -> None:
    breast = mammogram(side=side).breast
    assert breast[0 if side == "left" else -1].any() and not breast[-1 if side == "left" else 0].any()
