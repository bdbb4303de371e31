from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.color import rgb_from_hed

from medresnet3d.data.phantoms.pictures import blood_smear
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.transforms.colour_augmentation import (
    RandColourJitter,
    RandColourMap,
    RandRaiseChannel,
    RandStainJitter,
)

SMEAR = blood_smear(48)
ALL = [
    RandColourJitter(1.0, hue=0.1),
    RandRaiseChannel(1.0),
    RandStainJitter(1.0),
    RandStainJitter(1.0, space="macenko"),
]
IDS = ["jitter", "raise", "hed", "macenko"]


@pytest.mark.parametrize("transform", ALL, ids=IDS)
def test_seeded_in_range_and_of_the_same_type(transform: RandColourJitter) -> None:
    results = [transform.set_random_state(seed)(SMEAR) for seed in (0, 0, 1)]
    assert all(each.dtype == np.uint8 and each.shape == SMEAR.shape for each in results)
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0] != results[2]).any() and (results[0] != SMEAR).any()
    assert np.abs(results[0].astype(int) - SMEAR).mean() < 40


@pytest.mark.parametrize("transform", ALL, ids=IDS)
def test_types_and_flat_slices(transform: RandColourJitter) -> None:
    tensor = torch.as_tensor(SMEAR)[..., None].float()
    result = transform.set_random_state(2)(tensor)
    assert result.dtype == torch.float32 and result.shape == tensor.shape
    assert (result[..., 0] - torch.as_tensor(transform(SMEAR, randomize=False)).float()).abs().max() < 1
    with pytest.raises(DataError, match="red, green and blue"):
        transform(SMEAR[:1])


@pytest.mark.parametrize(
    "transform",
    [
        RandColourJitter(1.0, 0.0, 0.0, 0.0, 0.0),
        RandRaiseChannel(1.0, (0.0, 0.0)),
        RandStainJitter(1.0, 0.0, 0.0),
        RandStainJitter(1.0, 0.0, 0.0, "macenko"),
        RandColourJitter(0.0),
    ],
)
def test_strength_zero_changes_nothing(transform: RandColourJitter) -> None:
    assert np.abs(transform(SMEAR).astype(int) - SMEAR).max() <= 1


def test_pictures_packed_as_channels_are_jittered_alike() -> None:
    jitter = RandColourJitter(1.0, hue=0.1).set_random_state(0)
    packed = jitter(np.concatenate([SMEAR, 255 - SMEAR]))
    for part, picture in zip(np.split(packed, 2), (SMEAR, 255 - SMEAR), strict=True):
        np.testing.assert_array_equal(part, jitter(picture, randomize=False))


def test_brightness_and_saturation_do_what_their_names_say() -> None:
    picture = np.random.default_rng(0).random((3, 9, 9), dtype=np.float32) * 0.4 + 0.2
    bright = RandColourJitter(1.0, 0.2, 0.0, 0.0, 0.0).set_random_state(1)
    np.testing.assert_allclose(bright(picture), picture * bright.drawn[0], atol=1e-6)
    pale = RandColourJitter(1.0, 0.0, 0.0, 0.5, 0.0).set_random_state(1)
    result = pale(picture)
    np.testing.assert_allclose(result.mean(0), picture.mean(0), atol=1e-3)
    np.testing.assert_allclose(result.std(0), picture.std(0) * pale.drawn[2], atol=0.02)


def test_one_channel_is_raised() -> None:
    picture = np.full((3, 4, 4), 100, np.uint8)
    raised = {
        int(np.argmax(RandRaiseChannel(1.0, (0.1, 0.1)).set_random_state(s)(picture)[:, 0, 0])) for s in range(12)
    }
    assert raised == {0, 1, 2}
    result = RandRaiseChannel(1.0, (0.1, 0.1)).set_random_state(0)(picture)[:, 0, 0]
    assert sorted(result.tolist()) == [100, 100, 126]


@pytest.mark.parametrize("stain", [0, 1, 2])
def test_a_stain_is_scaled_in_optical_density(stain: int) -> None:
    """A picture of one stain: its density changes by the factor that was drawn for it, plus the offsets of all."""
    amount = np.random.default_rng(0).uniform(0.2, 1.0, (8, 8))
    picture = np.exp(-rgb_from_hed[stain][:, None, None] * amount).astype(np.float32)
    jitter = RandStainJitter(1.0, scale=0.3, shift=0.0).set_random_state(3)
    density = -np.log(jitter(picture))
    expected = rgb_from_hed[stain][:, None, None] * amount * jitter.factors[stain]
    np.testing.assert_allclose(density, expected, atol=1e-4)


def test_macenko_scales_the_pictures_own_stains() -> None:
    """Nuclei and red cells of the smear change by different factors, and what is neither stays."""
    jitter = RandStainJitter(1.0, scale=0.5, shift=0.0, space="macenko").set_random_state(5)
    stains = jitter._own_stains(SMEAR.astype(np.float32) / 255)
    if stains is None:
        pytest.fail("the stains of the smear were not found")
    density = [-np.log(np.clip(each.astype(float) / 255, 1 / 256, 1)).reshape(3, -1) for each in (SMEAR, jitter(SMEAR))]
    amounts = [np.linalg.lstsq(stains, each, rcond=None)[0] for each in density]
    for index in range(2):
        large = np.abs(amounts[0][index]) > 0.3
        ratio = np.median(amounts[1][index][large] / amounts[0][index][large])
        assert ratio == pytest.approx(jitter.factors[index], abs=0.05)


def test_a_blank_picture_has_no_stains_of_its_own() -> None:
    blank = np.full((3, 8, 8), 250, np.uint8)
    result = RandStainJitter(1.0, space="macenko").set_random_state(0)(blank)
    np.testing.assert_array_equal(result, RandStainJitter(1.0).set_random_state(0)(blank))
    with pytest.raises(ConfigError, match="no space 'lab'"):
        RandStainJitter(space="lab")


def test_a_colour_map_is_the_jitter_of_a_normalised_picture() -> None:
    """Where nothing is cut off, both do the same to the same draws."""
    picture = torch.rand(3, 9, 7, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4
    mean, deviation = [0.5, 0.4, 0.3], [0.2, 0.3, 0.25]
    shift, scale = (torch.tensor(values)[:, None, None] for values in (mean, deviation))
    colours = RandColourMap(1.0, 0.1, 0.2, 0.3, mean=mean, deviation=deviation).set_random_state(4)
    changed = colours((picture - shift) / scale) * scale + shift
    jitter = RandColourJitter(1.0, 0.1, 0.2, 0.3, 0.0)
    jitter.drawn, jitter._do_transform = (*colours.drawn[:3], 0.0), True
    torch.testing.assert_close(changed, torch.as_tensor(jitter(picture, randomize=False)))
    assert colours.drawn[3:] == [1.0] * 3 and not torch.allclose(changed, picture)


def test_a_tint_gives_each_channel_its_own_factor() -> None:
    picture = torch.full((3, 4, 4), 0.5)
    tint = RandColourMap(1.0, 0.0, 0.0, 0.0, tint=0.3).set_random_state(2)
    factors = tint(picture)[:, 0, 0] / 0.5
    torch.testing.assert_close(factors, torch.tensor(tint.drawn[3:]))
    assert len(set(tint.drawn[3:])) == 3 and torch.equal(picture, torch.full((3, 4, 4), 0.5))
    assert RandColourMap(0.0, tint=0.3)(picture) is picture
    with pytest.raises(DataError, match="this picture has 1 channel"):
        tint(torch.ones(1, 4, 4))
