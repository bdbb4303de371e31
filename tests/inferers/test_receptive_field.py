from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.networks.nets import BasicUNet, DenseNet121, SegResNet, UNet
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.inferers.receptive_field import Halo, halo
from medresnet3d.networks.layers.activations import SURVEY
from medresnet3d.networks.voxresnet import VoxResNet


def reach(network: nn.Module, size: int, spatial_dims: int, axis: int = 0) -> int:
    """How far along an axis a voxel's answer is seen to depend on the input: by what one NaN spoils.

    The other axes are as short as the network allows. Every place of the NaN on the lattice of eight is tried.
    """
    network = network.double().eval()
    farthest = 0
    for place in range(size // 2, size // 2 + 8):
        shape = [16] * spatial_dims
        shape[axis] = size
        image = torch.zeros(1, 1, *shape, dtype=torch.float64)
        image.movedim(axis + 2, 0)[place] = torch.nan
        with torch.no_grad():
            spoilt = network(image).isnan().movedim(axis + 2, 0).flatten(1).any(1).nonzero().flatten()
        assert int(spoilt.min()) > 0
        assert int(spoilt.max()) < size - 1
        farthest = max(farthest, place - int(spoilt.min()), int(spoilt.max()) - place)
    return farthest


NETWORKS: dict[str, tuple[nn.Module, int]] = {
    "voxresnet": (VoxResNet(2, 1, 2, width=2), 2),
    "unet": (UNet(3, 1, 2, (2, 4, 4), (2, 2), num_res_units=1, norm="batch"), 3),
    "basic unet": (BasicUNet(2, 1, 2, (2, 2, 2, 2, 2, 2), norm="batch"), 2),
    "dilated": (nn.Sequential(nn.Conv2d(1, 1, 3, padding=2, dilation=2), nn.Conv2d(1, 1, 5, padding="same")), 2),
    "pooled": (nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(1, 1, 3, padding=1), nn.Upsample(scale_factor=2)), 2),
    "linear": (nn.Sequential(nn.AvgPool2d(4), nn.Upsample(scale_factor=4, mode="bilinear")), 2),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_halo_covers_all_that_a_voxel_depends_on_and_little_more(name: str) -> None:
    network, dims = NETWORKS[name]
    found = halo(network, 1, dims)
    seen = reach(network, 384 if dims == 2 else 96, dims)
    assert seen <= found.size[0] <= seen + found.stride[0]
    assert len(set(found.size)) == 1


@pytest.mark.parametrize("act", [*SURVEY, "torch_rrelu", "maxout_relu"])
def test_no_activation_or_batch_normalisation_looks_farther(act: str) -> None:
    network = VoxResNet(2, 1, 2, width=2, act=act, norm="batch_renorm", dropout=0.5)
    assert halo(network, 1, 2) == halo(VoxResNet(2, 1, 2, width=2), 1, 2)


def test_a_maximum_over_places_is_refused() -> None:
    class Largest(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x - x.amax(2, keepdim=True)

    with pytest.raises(ConfigError, match="amax over an axis of the image"):
        halo(Largest(), 1, 2)


def test_each_axis_has_its_own_halo() -> None:
    network = nn.Sequential(
        nn.Conv3d(1, 1, (1, 3, 7), padding=(0, 1, 3)), nn.MaxPool3d((1, 1, 2)), nn.Upsample(scale_factor=(1, 1, 2))
    )
    assert halo(network, 1, 3) == Halo((0, 1, 4), (1, 1, 2))
    assert halo(network, 1, 3).margin == (0, 1, 4)


def test_tiles_with_their_halo_equal_one_pass() -> None:
    torch.manual_seed(0)
    network = VoxResNet(2, 1, 3, width=4).eval()
    image = torch.randn(1, 1, 320, 16)
    margin = halo(network, 1, 2).margin[0]
    with torch.no_grad():
        whole = network(image)
        begin, end = 120, 200
        tile = network(image[:, :, begin - margin : end + margin])[:, :, margin:-margin]
        short = network(image[:, :, begin - 16 : end + 16])[:, :, 16:-16]
    assert float((tile - whole[:, :, begin:end]).abs().max()) < 1e-5
    assert float((short - whole[:, :, begin:end]).abs().max()) > 1e-5


class Turned(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + x.transpose(2, 3)


class Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(1, 1, 64, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.table


@pytest.mark.parametrize(
    ("network", "dims", "reason"),
    [
        (UNet(3, 1, 2, (4, 8), (2,)), 3, 'instance normalisation .* in "model.0.adn.N"'),
        (SegResNet(2, 8, 1, 2), 2, "group normalisation"),
        (DenseNet121(2, 1, 2), 2, "global pooling"),
        (nn.Conv2d(1, 1, 3, stride=2, padding=1), 2, "another grid"),
        (nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), 2, "align_corners"),
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), 2, "circular"),
        (nn.Softmax(dim=2), 2, "softmax over an axis"),
        (nn.BatchNorm2d(1, track_running_stats=False), 2, "statistics of the batch"),
        (Turned(), 2, "transpose is not known"),
        (Table(), 2, "table of values by position"),
    ],
)
def test_refused_with_the_reason(network: nn.Module, dims: int, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        halo(network, 1, dims)


def test_outputs_of_several_heads_count_together() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.near = nn.Conv2d(1, 1, 3, padding=1)
            self.far = nn.Conv2d(1, 1, 9, padding=4)

        def forward(self, x: torch.Tensor) -> dict[str, Any]:
            return {"near": self.near(x), "far": [self.far(x)]}

    assert halo(Heads(), 1, 2).size == (4, 4)


def test_cropping_moves_the_view() -> None:
    class Cropping(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            padded = nn.functional.pad(x, (3, 0, 0, 0))
            return padded[..., :-3] + padded.narrow(3, 3, x.shape[3])

    assert halo(Cropping(), 1, 2).size == (0, 3)
