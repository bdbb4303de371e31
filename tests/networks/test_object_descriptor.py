"""What is measured in a picture of one object, against scikit-image and by construction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.color import rgb2hsv, rgb2lab
from skimage.feature import local_binary_pattern
from skimage.filters import gaussian, threshold_otsu
from torch import Tensor

from medresnet3d.networks import object_descriptor as described
from medresnet3d.networks.object_descriptor import ObjectDescriptor


def disc(colour: tuple[float, float, float], radii: tuple[float, float] = (24, 24), size: int = 96) -> Tensor:
    """(1, 3, n, n): an ellipse of one colour on skin, with a little noise."""
    down, right = torch.meshgrid(*[torch.arange(size) - (size - 1) / 2] * 2, indexing="ij")
    inside = (down / radii[0]) ** 2 + (right / radii[1]) ** 2 < 1
    skin = torch.tensor([0.85, 0.65, 0.6])[:, None, None]
    picture = torch.where(inside, torch.tensor(colour)[:, None, None], skin)
    return (picture + 0.01 * torch.rand(3, size, size, generator=torch.Generator().manual_seed(0)))[None].clamp(0, 1)


@pytest.fixture
def pictures() -> Tensor:
    return torch.rand(2, 3, 48, 56, generator=torch.Generator().manual_seed(1))


def test_colours_are_those_of_scikit_image(pictures: Tensor):
    channels_last = pictures.permute(0, 2, 3, 1).double().numpy()
    lab = np.moveaxis(rgb2lab(channels_last), -1, 1)
    hsv = np.moveaxis(rgb2hsv(channels_last), -1, 1)
    np.testing.assert_allclose(described.to_lab(pictures).numpy(), lab, atol=0.02)
    np.testing.assert_allclose(described.to_hsv(pictures).numpy(), hsv, atol=1e-5)


def test_hue_of_grey_black_and_white_is_zero():
    grey = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    assert described.to_hsv(grey)[:, :2].abs().max() == 0


@pytest.mark.parametrize("sigma", [0.7, 3.0, 16.0])
def test_smoothing_is_scipys(pictures: Tensor, sigma: float):
    found = described.smoothed(pictures[:, 0], sigma)
    reach = int(4 * sigma + 0.5)
    expected = [gaussian(each.double().numpy(), sigma, mode="mirror", truncate=4.0) for each in pictures[:, 0]]
    if reach < 48:
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    assert torch.allclose(described.smoothed(torch.ones(1, 48, 56), sigma), torch.ones(1, 48, 56), atol=1e-5)


def test_otsus_threshold_is_near_scikit_images():
    values = torch.cat([torch.randn(1, 40, 20) + 2, torch.randn(1, 40, 20) + 8], dim=2)
    found, level = float(described.otsu(values)), float(values.max() - values.min()) / 64
    assert abs(found - threshold_otsu(values[0].numpy(), nbins=64)) <= 1.5 * level


def test_binary_patterns_are_scikit_images_of_the_same_neighbours():
    grey = torch.randint(0, 255, (1, 40, 40), generator=torch.Generator().manual_seed(2)).float()
    ours = described.binary_patterns(grey, 1)[0, 1:-1, 1:-1].numpy()
    # at radius 1 scikit-image interpolates the diagonal neighbours; those of a picture without diagonal detail agree
    flat = grey.mean(2, keepdim=True).expand_as(grey).contiguous()
    same = described.binary_patterns(flat, 1)[0, 2:-2, 2:-2].numpy()
    theirs = local_binary_pattern(flat[0].double().numpy(), 8, 1, "uniform")[2:-2, 2:-2]
    assert (same == theirs).mean() > 0.9
    assert set(np.unique(ours)) <= set(range(10))


def test_the_object_is_found_and_measured():
    colour = (0.35, 0.2, 0.15)
    lab = described.to_lab(disc(colour, (30, 15)))
    inside = described.object_of(lab - described.rim_colour(lab)[:, :, None, None])
    area, down, right, length, width, elongation, outline, filled = described.shape_of(inside)[0].tolist()
    assert area == pytest.approx(np.pi * 30 * 15 / 96**2, rel=0.1)
    assert abs(down) < 0.03 and abs(right) < 0.03
    assert elongation == pytest.approx(0.5, abs=0.06)
    assert length / width == pytest.approx(2, abs=0.25)
    assert filled == pytest.approx(np.pi / 4, abs=0.06)
    assert outline > 3.5  # 2 sqrt(pi) is the least, of a disc with a smooth border
    radius = described.elliptic_radius(inside)[0]
    assert radius[48, 48] < 0.1
    assert radius[48 - 30, 48] == pytest.approx(1, abs=0.1)
    assert radius[48, 48 + 15] == pytest.approx(1, abs=0.1)


def test_statistics_are_those_of_the_pixels_inside():
    colours = torch.rand(1, 2, 20, 20)
    region = (torch.rand(1, 20, 20) > 0.6).float()
    values = colours[0][:, region[0] > 0].double().numpy()
    expected = [values.mean(1), values.std(1)]
    places = np.sort(values, 1)
    expected += [places[:, round(q * (values.shape[1] - 1))] for q in described.QUANTILES]
    np.testing.assert_allclose(described.statistics(colours, region)[0].numpy(), np.concatenate(expected), atol=1e-5)


def test_light_does_not_change_what_is_measured_against_the_surroundings_much():
    describe = ObjectDescriptor((0.0,) * 3, (1.0,) * 3)
    brown, darker, red = (describe(disc(c)) for c in ((0.4, 0.25, 0.2), (0.36, 0.225, 0.18), (0.7, 0.2, 0.2)))
    spread = torch.cat([brown, darker, red]).std(0).clamp_min(1e-3)
    assert ((brown - darker) / spread).abs().mean() < ((brown - red) / spread).abs().mean()


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_picture_without_anything_is_described_all_the_same(value: float):
    found = ObjectDescriptor()(torch.full((1, 3, 64, 64), value))
    assert found.shape == (1, ObjectDescriptor.length)
    assert torch.isfinite(found).all()


def test_flips_leave_measurements_but_place():
    describe = ObjectDescriptor((0.0,) * 3, (1.0,) * 3)
    picture = disc((0.4, 0.25, 0.2), (28, 18))
    first, flipped = describe(picture)[0], describe(picture.flip(2))[0]
    close = torch.isclose(first, flipped, rtol=0.05, atol=0.05 * float(first.abs().median()) + 0.02)
    assert close.float().mean() > 0.9
