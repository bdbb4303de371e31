from __future__ import annotations

import pytest
import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks.fitting import adapt_channels, first_kernel, fit_tensor, inflate


def test_inflation_is_exact_in_the_interior_and_falls_off_at_the_border() -> None:
    torch.manual_seed(0)
    flat, deep = nn.Conv2d(2, 3, 3, padding=1), nn.Conv3d(2, 3, 3, padding=1)
    deep.load_state_dict({"weight": inflate(flat.weight, 3), "bias": flat.bias})
    image = torch.randn(1, 2, 9, 9)
    with torch.no_grad():
        expected, volume = flat(image), deep(image[..., None].expand(-1, -1, -1, -1, 6))
    for k in range(1, 5):
        torch.testing.assert_close(volume[..., k], expected)
    assert not torch.allclose(volume[..., 0], expected, atol=1e-2)


def test_inflation_in_the_centre_sees_each_slice_alone() -> None:
    torch.manual_seed(0)
    flat, deep = nn.Conv2d(2, 3, 3, padding=1), nn.Conv3d(2, 3, 3, padding=1)
    with torch.no_grad():
        deep.load_state_dict({"weight": inflate(flat.weight, 3, mode="centre"), "bias": flat.bias})
        volume = torch.randn(1, 2, 9, 9, 5)
        for k in range(5):
            torch.testing.assert_close(deep(volume)[..., k], flat(volume[..., k]))


@pytest.mark.parametrize("mode", ["mean", "centre"])
@pytest.mark.parametrize("axis", [2, 3, -1])
def test_inflation_axis(axis: int, mode: str) -> None:
    weight = torch.randn(4, 2, 3, 5)
    inflated = inflate(weight, 7, axis, mode)
    assert inflated.shape[axis] == 7
    torch.testing.assert_close(inflated.sum(axis), weight)


def test_unknown_inflation_lists_the_two() -> None:
    with pytest.raises(ConfigError, match="mean, centre"):
        inflate(torch.zeros(1, 1, 3, 3), 3, mode="center-out")


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_copies_of_a_grey_image_give_what_three_gave(channels: int) -> None:
    weight, grey = torch.randn(4, 3, 3, 3), torch.rand(1, 1, 8, 8)
    adapted = adapt_channels(weight, channels)
    assert adapted.shape == (4, channels, 3, 3)
    torch.testing.assert_close(
        nn.functional.conv2d(grey.expand(-1, channels, -1, -1), adapted),
        nn.functional.conv2d(grey.expand(-1, 3, -1, -1), weight),
    )


def test_only_the_first_kernel_may_have_other_channels() -> None:
    weight, shape = torch.randn(4, 3, 3, 3), torch.Size((4, 1, 3, 3))
    assert fit_tensor("conv1.weight", weight, shape, "conv1.weight") is not None
    assert fit_tensor("conv2.weight", weight, shape, "conv1.weight") is None


def test_first_kernel_is_that_of_the_first_convolution() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    assert first_kernel(network.state_dict()) == "1.weight"
    assert first_kernel(nn.Linear(2, 2).state_dict()) == ""
