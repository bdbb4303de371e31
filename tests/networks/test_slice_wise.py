from __future__ import annotations

import pytest
import torch
from torch import nn

from medresnet3d.inferers import SlidingWindowInferer
from medresnet3d.inferers.receptive_field import Halo, halo
from medresnet3d.networks.slice_wise import SliceWise


class Channels(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_every_slice_goes_through_with_its_neighbours_in_order() -> None:
    volume = torch.rand(2, 1, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    seen = SliceWise(Channels(), 1)(volume)
    assert seen.shape == (2, 3, 5, 6, 7)
    assert torch.equal(seen[:, 1:2], volume)
    assert torch.equal(seen[:, 0, ..., 1:], volume[:, 0, ..., :-1]) and torch.equal(
        seen[:, 2, ..., :-1], volume[:, 0, ..., 1:]
    )
    assert torch.equal(seen[:, 0, ..., 0], volume[:, 0, ..., 0]) and torch.equal(
        seen[:, 2, ..., -1], volume[:, 0, ..., -1]
    )


def test_slices_of_several_volumes_stay_apart() -> None:
    network = SliceWise(nn.Conv2d(3, 2, 3, padding=1), 1).eval()
    volumes = torch.rand(3, 1, 8, 8, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(network(volumes), torch.cat([network(one[None]) for one in volumes]))


def test_a_single_slice_is_a_volume_too() -> None:
    network = SliceWise(nn.Conv2d(3, 1, 1), 1)
    assert network(torch.rand(1, 1, 8, 8, 1)).shape == (1, 1, 8, 8, 1)


@pytest.mark.parametrize("strategy", ["halo", "auto"])
def test_tiles_carry_the_neighbouring_slices_and_equal_one_pass(strategy: str) -> None:
    torch.manual_seed(0)
    network = SliceWise(
        nn.Sequential(nn.Conv2d(5, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 5, padding=2)), 2
    ).eval()
    assert halo(network, 1, 3) == Halo((3, 3, 2), (1, 1, 1))
    volume = torch.rand(1, 1, 30, 28, 26)
    tiled = SlidingWindowInferer(8, strategy=strategy, precision="fp32", memory=300_000)
    with torch.no_grad():
        torch.testing.assert_close(tiled(volume, network), network(volume), atol=1e-5, rtol=1e-4)
    assert tiled.report is not None and tiled.report.windows_total > 1
