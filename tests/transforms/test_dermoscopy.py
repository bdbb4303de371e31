from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medresnet3d.data.phantoms.pictures import skin
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.transforms.dermoscopy import (
    VERSIONS,
    EdgeStrength,
    GreyWorld,
    HairRemoval,
    ShadesOfGrey,
    skin_versions,
)
from medresnet3d.transforms.load import LoadVolumed

channel = st.floats(0.4, 1.0)


def chromaticity(picture: np.ndarray) -> np.ndarray:
    mean = picture.reshape(3, -1).mean(1)
    return mean / mean.sum()


@settings(max_examples=15, deadline=None)
@given(light=st.tuples(channel, channel, channel), power=st.sampled_from((1.0, 3.0, 6.0)))
def test_the_same_skin_in_another_light_looks_the_same(light: tuple[float, float, float], power: float) -> None:
    picture = np.random.default_rng(0).random((3, 16, 16), dtype=np.float32) * 0.5
    one, other = (ShadesOfGrey(power)(each) for each in (picture, picture * np.array(light, np.float32)[:, None, None]))
    np.testing.assert_allclose(chromaticity(one), chromaticity(other), atol=1e-4)


def test_the_formula_by_hand() -> None:
    picture = np.array([[[0.2, 0.4]], [[0.1, 0.3]], [[0.3, 0.1]]], dtype=np.float32)
    light = ((picture.astype(float) ** 6).mean((1, 2))) ** (1 / 6)
    light /= np.linalg.norm(light)
    np.testing.assert_allclose(ShadesOfGrey()(picture), picture / (np.sqrt(3) * light)[:, None, None], rtol=1e-5)


def test_grey_world_makes_the_mean_grey() -> None:
    picture = skin(64, light=(1.0, 0.8, 0.5), hairs=0).picture
    np.testing.assert_allclose(chromaticity(GreyWorld()(picture)), 1 / 3, atol=0.01)
    grey = np.random.default_rng(0).random((1, 8, 8), dtype=np.float32).repeat(3, 0)
    np.testing.assert_allclose(GreyWorld()(grey), grey, atol=1e-6)


def test_a_black_channel_says_nothing_of_the_light() -> None:
    picture = np.zeros((3, 4, 4), np.uint8)
    picture[0] = 50
    np.testing.assert_array_equal(ShadesOfGrey()(picture), picture)


@pytest.mark.parametrize("size", [160, 420])
def test_hairs_are_found_and_skin_and_mole_are_left(size: int) -> None:
    truth = skin(size, seed=1)
    mask = HairRemoval().hairs(truth.picture.astype(np.float32) / 255)
    assert mask[truth.hairs].mean() > 0.7
    assert mask[~ndimage.binary_dilation(truth.hairs, iterations=max(3, size // 60))].mean() < 0.01


def test_what_is_filled_in_is_like_what_was_below() -> None:
    truth = skin(160, seed=2)
    result = HairRemoval()(truth.picture)
    before, after = (np.abs(each.astype(float) - truth.bare).mean() for each in (truth.picture, result))
    assert after < 0.3 * before
    far = ~ndimage.binary_dilation(truth.hairs, iterations=6)
    assert (result[:, far] != truth.picture[:, far]).mean() < 0.01


def test_without_hairs_nothing_changes() -> None:
    """The mole is dark and has a texture of its own."""
    bare = skin(160, hairs=0, seed=3).picture
    np.testing.assert_array_equal(HairRemoval()(bare), bare)
    rim = bare.copy()
    rim[:, :3] = 10  # a dark rim is no hair
    np.testing.assert_array_equal(HairRemoval()(rim), rim)


def test_grey_pictures_are_refused() -> None:
    for transform in (GreyWorld(), HairRemoval()):
        with pytest.raises(DataError, match="red, green and blue"):
            transform(np.zeros((1, 16, 16), np.uint8))


@pytest.mark.realdata
def test_real_dermoscopy(realdata: Path) -> None:
    """Colour constancy brings the pictures of a camera park together; hair removal touches a minority of pixels."""
    items = json.loads((realdata / "dermoscopy" / "manifest.json").read_text())["training"][::40]
    load = LoadVolumed("image")
    pictures = [load({"image": str(realdata / "dermoscopy" / item["image"])})["image"] for item in items]
    spread = [
        np.std([chromaticity(np.asarray(each)) for each in group], axis=0).mean()
        for group in (pictures, [ShadesOfGrey()(each) for each in pictures])
    ]
    assert spread[1] < 0.5 * spread[0]
    shares = [HairRemoval().hairs(np.asarray(each)[..., 0] / 255).mean() for each in pictures]
    assert np.median(shares) < 0.05 and max(shares) > 0.01


def test_edges_are_where_the_picture_changes() -> None:
    picture = np.zeros((3, 8, 8), np.float32)
    picture[0, :, 4:] = 1
    edges = EdgeStrength()(picture)
    assert edges.shape == picture.shape and edges.dtype == np.float32
    np.testing.assert_allclose(edges[0, :, [3, 4]], 1, atol=0.3)
    assert edges[0, :, :2].max() == edges[1:].max() == 0


def test_every_version_has_a_name_and_keeps_the_size() -> None:
    picture = skin(32, hairs=2, seed=0).picture
    for name, version in zip(VERSIONS, skin_versions(list(VERSIONS)), strict=True):
        assert (version is None) == (name == "rgb")
        assert version is None or version(picture).shape == picture.shape
    with pytest.raises(ConfigError, match="Did you mean 'grey_world'"):
        skin_versions(["gray_world"])
