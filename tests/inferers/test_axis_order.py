from __future__ import annotations

import pytest
import torch
from monai.networks.nets import UNet
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.inferers.axis_order import reorder_axes

ORDER = (2, 0, 1)


def turned(image: torch.Tensor) -> torch.Tensor:
    return image.permute(0, 1, *(axis + 2 for axis in ORDER))


@pytest.mark.parametrize(
    "network",
    [
        nn.Conv3d(1, 2, (5, 3, 1), stride=(1, 2, 1), padding=(2, 1, 0), dilation=(1, 1, 2)),
        nn.ConvTranspose3d(1, 2, (2, 3, 1), stride=(2, 1, 1), padding=(0, 1, 0), output_padding=(1, 0, 0)),
        nn.Sequential(nn.Conv3d(1, 2, 3, padding="same"), nn.MaxPool3d((1, 2, 4))),
        nn.Sequential(nn.AvgPool3d((1, 2, 2)), nn.Upsample(scale_factor=(1, 2, 2))),
        UNet(3, 1, 2, (4, 8, 16), ((1, 2, 2), (2, 2, 1)), kernel_size=(3, 1, 3), num_res_units=1, norm="batch"),
    ],
)
@torch.no_grad()
def test_the_same_is_computed_for_turned_axes(network: nn.Module) -> None:
    network.eval()
    image = torch.randn(1, 1, 8, 12, 16, generator=torch.Generator().manual_seed(0))
    expected = turned(network(image))
    reorder_axes(network, ORDER)
    assert torch.allclose(network(turned(image)), expected, atol=1e-5)


def test_same_order_changes_nothing() -> None:
    network = nn.Conv3d(1, 1, 3, padding=1, padding_mode="circular")
    weight = network.weight
    reorder_axes(network, (0, 1, 2))
    assert network.weight is weight


class Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(1, 1, 4, 4, 4))


CIRCULAR = nn.Conv3d(1, 1, 3, padding=1, padding_mode="circular")


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (nn.Sequential(Table()), "weights whose axes are not known"),
        (nn.Sequential(CIRCULAR), "pads with"),
    ],
)
def test_what_is_not_known_is_refused(network: nn.Module, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        reorder_axes(network, ORDER)
