from __future__ import annotations

import numpy as np
import pytest
from skimage.exposure import equalize_adapthist

from medresnet3d.transforms.contrast import CLAHE


def test_it_is_scikit_images_channel_by_channel() -> None:
    picture = np.random.default_rng(0).random((2, 32, 24), dtype=np.float32) * 0.4 + 0.1
    expected = [equalize_adapthist(channel, kernel_size=(8, 6), clip_limit=0.03) for channel in picture]
    np.testing.assert_allclose(CLAHE(clip_limit=0.03, tiles=4)(picture), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 40, 40), (1, 40, 40, 1), (1, 16, 16, 16)])
def test_faint_structure_in_a_dark_corner_is_raised(shape: tuple[int, ...]) -> None:
    picture = np.full(shape, 0.1, np.float32)
    picture[:, : shape[1] // 2] = 0.9
    stripes = np.zeros(shape, bool)
    stripes[:, 3 * shape[1] // 4 :, ::4] = True
    picture[stripes] = 0.13
    result = CLAHE(clip_limit=0.1, tiles=4)(picture)
    around = np.roll(stripes, 2, axis=2)
    assert result[stripes].mean() - result[around].mean() > 3 * 0.03


def test_a_channel_of_one_value_stays() -> None:
    picture = np.full((1, 8, 8), 40, np.uint8)
    np.testing.assert_array_equal(CLAHE()(picture), picture)
