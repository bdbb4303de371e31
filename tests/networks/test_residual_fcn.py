from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from medresnet3d.networks.layers.activations import SURVEY
from medresnet3d.networks.residual_fcn import PRIOR, ResidualFCN
from tests.networks.base import NetworkSuite


class TestResidualFCN(NetworkSuite):
    odd_size = (37, 35, 33)
    counts: ClassVar[Any] = (
        ({"width": 1.0}, 1_451_282),
        ({"width": 0.5}, 363_530),
        ({"width": 1.0, "spatial_dims": 2}, 514_034),
    )

    def build(self, spatial_dims: int = 3, **options: Any) -> nn.Module:
        return ResidualFCN(spatial_dims, **{"width": 0.25, **options})

    def output_shape(self, image: torch.Tensor) -> tuple[int, ...]:
        return (image.shape[0], 2, *image.shape[2:])


def test_both_heads_start_at_the_prior() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        logits = ResidualFCN(2, width=0.5)(torch.rand(4, 1, 32, 32))
    for head in range(2):
        assert float(logits[:, head].sigmoid().median()) == pytest.approx(PRIOR, rel=2)


@pytest.mark.parametrize("act", [*SURVEY, "maxout_relu"])
def test_every_activation_trains(act: str) -> None:
    torch.manual_seed(0)
    network = ResidualFCN(2, width=0.25, act=act, norm="batch_renorm", dropout=0.2).train()
    if act not in ("relu", "maxout_relu"):
        assert not [module for module in network.modules() if isinstance(module, nn.ReLU)]
    network(torch.rand(2, 1, 18, 16)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
