"""All levels reach the dense map, and training has a logit map of each."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from medresnet3d.networks.multi_level_fcn import PRIOR, MultiLevelFCN
from tests.networks.base import NetworkSuite


class TestMultiLevelFCN(NetworkSuite):
    odd_size = (37, 35, 33)
    counts: ClassVar[Any] = (
        ({"spatial_dims": 2, "depth": 50, "width": 1.0, "fusion_channels": 32}, 23_699_140),
        ({"spatial_dims": 2, "depth": 18, "width": 0.25, "fusion_channels": 32}, 782_708),
    )

    def build(self, spatial_dims: int = 3, **options: Any) -> nn.Module:
        given = {"depth": 10, "width": 0.125, "fusion_channels": 8, **options}
        return MultiLevelFCN(spatial_dims=spatial_dims, in_channels=1, **given)

    def output_shape(self, image: Tensor) -> tuple[int, ...]:
        return (image.shape[0], 1, *image.shape[2:])


def network() -> MultiLevelFCN:
    torch.manual_seed(0)
    return MultiLevelFCN(10, width=0.125, fusion_channels=8)


def test_training_gives_a_map_of_every_level_in_the_size_of_the_image() -> None:
    outputs = network().train()(torch.rand(2, 3, 41, 48))
    assert [tuple(output.shape) for output in outputs] == [(2, 1, 41, 48)] * 4
    assert float(outputs[0].sigmoid().median()) == pytest.approx(PRIOR, rel=0.5)


@pytest.mark.parametrize("level", range(4))
def test_every_level_is_part_of_the_answer(level: int) -> None:
    net, image = network().eval(), torch.rand(1, 3, 48, 48)
    with torch.no_grad():
        before = net(image)
        nn.init.zeros_(net.scores[level].weight)
        assert not torch.allclose(net(image), before)


def test_published_weights_go_into_the_trunk_and_a_last_layer_is_left_out(tmp_path: Any) -> None:
    from medresnet3d.networks import start_from
    from medresnet3d.networks.classifier import build_classifier

    torch.manual_seed(1)
    published = build_classifier("resnet18", 2, 3, 1000)
    state = {name.replace("classifier.", "fc."): tensor for name, tensor in published.state_dict().items()}
    torch.save(state, tmp_path / "resnet18.pt")
    net = start_from(MultiLevelFCN(18), tmp_path / "resnet18.pt", freeze_until="stage2")
    assert torch.equal(net.trunk.layer4[1].conv2.weight, published.layer4[1].conv2.weight)
    assert not net.trunk.layer2[0].conv1.weight.requires_grad and net.trunk.layer3[0].conv1.weight.requires_grad
