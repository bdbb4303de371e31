from __future__ import annotations

import numpy as np
import pytest

from medresnet3d.data.phantoms.organs import ORGANS, organ_phantom


def test_every_organ_is_there_and_on_its_side() -> None:
    phantom = organ_phantom(3)
    assert sorted(np.unique(phantom.labels)) == list(range(len(ORGANS)))
    x = {
        name: (phantom.affine @ [*np.argwhere(phantom.labels == number).mean(0), 1])[0]
        for number, name in enumerate(ORGANS)
    }
    assert x["liver"] > 0 > x["spleen"]
    assert x["right kidney"] > 0 > x["left kidney"]
    assert x["right adrenal gland"] > 0 > x["left adrenal gland"]


def test_intensities_are_those_of_a_contrast_ct() -> None:
    phantom = organ_phantom(1, noise=0)
    assert phantom.image.dtype == np.int16
    assert phantom.labels.dtype == np.uint8
    assert phantom.image[0, 0, 0] == -1000
    liver = float(np.median(phantom.image[phantom.labels == ORGANS.index("liver")]))
    aorta = float(np.median(phantom.image[phantom.labels == ORGANS.index("aorta")]))
    assert 90 < liver < 120 < aorta < 230


def test_the_seed_is_the_patient() -> None:
    shape = (24, 24, 8)
    first, again, other = (organ_phantom(seed, shape) for seed in (5, 5, 6))
    assert np.array_equal(first.image, again.image)
    assert not np.array_equal(first.labels, other.labels)


def test_a_crop_shows_the_same_patient() -> None:
    spacing = (4.0, 4.0, 5.0)
    whole = organ_phantom(2, (96, 96, 64), spacing)
    crop = organ_phantom(2, (32, 32, 32), spacing, centre=(40.0, 20.0, 40.0))
    start = np.linalg.inv(whole.affine) @ crop.affine[:, 3]
    i, j, k = (round(float(value)) for value in start[:3])
    assert np.abs(start[:3] - (i, j, k)).max() < 1e-6
    assert np.array_equal(whole.labels[i : i + 32, j : j + 32, k : k + 32], crop.labels)


@pytest.mark.parametrize("slices", [1, 33])
def test_any_number_of_slices(slices: int) -> None:
    phantom = organ_phantom(0, (16, 16, slices), (20.0, 20.0, 30.0))
    assert phantom.image.shape == phantom.labels.shape == (16, 16, slices)
    assert phantom.affine[2, 3] == pytest.approx(20 - 30 * (slices - 1) / 2)
