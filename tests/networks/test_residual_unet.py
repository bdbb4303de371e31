from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from medresnet3d.networks.layers.maxout import MaxPieces
from medresnet3d.networks.residual_unet import ResidualUNet
from tests.networks.base import NetworkSuite


class TestResidualUNet(NetworkSuite):
    counts: ClassVar[Any] = (({"width": 32}, 2_716_131), ({"width": 64, "fine": 16}, 10_854_723))

    def build(self, spatial_dims: int = 3, **options: Any) -> nn.Module:
        return ResidualUNet(spatial_dims, **{"width": 8, **options})

    def output_shape(self, image: torch.Tensor) -> tuple[int, ...]:
        return (image.shape[0], 3, *image.shape[2:])


def test_an_image_of_odd_size_is_padded_at_its_far_end() -> None:
    network, image = ResidualUNet(width=8).eval(), torch.randn(1, 1, 13, 16, 9)
    with torch.inference_mode():
        padded = network(nn.functional.pad(image, (0, 7, 0, 0, 0, 3)))
        assert torch.equal(network(image), padded[:, :, :13, :, :9])


def test_the_last_convolution_sees_single_voxels_of_the_image() -> None:
    """Two images that are alike at half resolution, since their difference has no mean there, get other logits."""
    torch.manual_seed(0)
    network = ResidualUNet(2, width=8).eval()
    kernel = network.down1[0].weight
    assert isinstance(kernel, torch.Tensor)
    with torch.no_grad():
        kernel.copy_(kernel.mean((2, 3), keepdim=True).expand_as(kernel))
        flat = torch.zeros(1, 1, 16, 16)
        checked = flat + torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(8, 8)
        halves = [network.down1[0](image)[..., 1:-1, 1:-1] for image in (flat, checked)]
        torch.testing.assert_close(*halves)
        assert (network(flat) - network(checked))[..., 4:-4, 4:-4].abs().max() > 0.01


@pytest.mark.parametrize("act", ["relu", "prelu", "elu", "maxout", "maxout_relu"])
def test_every_activation_reaches_every_place(act: str) -> None:
    torch.manual_seed(0)
    network = ResidualUNet(2, width=8, act=act, norm="batch_renorm", dropout=0.2).train()
    if "maxout" in act:
        kinds = [type(module) for module in network.modules() if isinstance(module, MaxPieces | nn.Conv2d)]
        assert kinds.count(MaxPieces) > 15
        assert not isinstance(network.classifier, MaxPieces)
    image = torch.rand(2, 1, 17, 24, generator=torch.Generator().manual_seed(1))
    network(image).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
