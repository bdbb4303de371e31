from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.metrics.paired import paired_test
from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.multi_view import MultiViewClassifier, build_multi_view
from tests.networks.base import ClassifierSuite


class TestMultiViewClassifier(ClassifierSuite):
    in_channels = 3
    counts = (
        ({"arch": "resnet18", "spatial_dims": 2, "width": 1.0}, 33_513_794),
        ({"arch": "resnet18", "spatial_dims": 2, "width": 1.0, "share_weights": True}, 11_173_314),
        ({"arch": "resnet50", "spatial_dims": 2, "width": 1.0}, 70_517_570),
    )

    def build(self, spatial_dims: int = 3, **options: Any) -> MultiViewClassifier:
        return build_multi_view(spatial_dims=spatial_dims, **{"arch": "resnet10", "width": 0.0625} | options)


class TestSharedTrunk(ClassifierSuite):
    in_channels = 3

    def build(self, spatial_dims: int = 3, **options: Any) -> MultiViewClassifier:
        return build_multi_view(
            spatial_dims=spatial_dims, **{"arch": "resnet10", "width": 0.0625, "share_weights": True} | options
        )


@pytest.mark.parametrize("depth", [10, 18, 34, 50])
def test_depth_is_the_architecture(depth: int) -> None:
    network = build_multi_view(f"resnet{depth}", width=0.0625).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 2)


def test_the_order_of_views_matters_to_separate_trunks() -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 3, 32, 32)
    turned = image[:, [1, 2, 0]]
    with torch.no_grad():
        apart, shared = (build_multi_view("resnet10", share_weights=one, width=0.125).eval() for one in (False, True))
        assert not torch.allclose(apart(image), apart(turned), atol=1e-4)
        features = shared.forward_features(image).reshape(2, 3, -1)
        torch.testing.assert_close(features[:, [1, 2, 0]], shared.forward_features(turned).reshape(2, 3, -1))


def test_trunks_must_fit_the_views() -> None:
    trunks = [build_classifier("resnet10", 2, width=0.0625) for _ in range(2)]
    with pytest.raises(ConfigError, match="2 trunks for 3 views"):
        MultiViewClassifier(trunks, 3, 32, 2)


def planes(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Three noisy planes with a ball each; in every second case the ball of the last plane has a spike."""
    place = torch.stack(torch.meshgrid(torch.arange(24.0) - 12, torch.arange(24.0) - 12, indexing="ij"))
    image = 0.2 * torch.randn(count, 3, 24, 24, generator=generator)
    image += (place.square().sum(0) < 25).float()
    label = torch.arange(count) % 2
    side = torch.where(torch.rand(count, generator=generator) < 0.5, 0, 16)
    for sample, wanted, start in zip(image, label.tolist(), side.tolist(), strict=True):
        if wanted:
            sample[2, start : start + 8, 11:14] += 1
    return image, label


def accuracy(views: int, width: float, seed: int, rate: float) -> float:
    """Accuracy on unseen cases of a network that is shown the first ``views`` planes."""
    generator = torch.Generator().manual_seed(seed)
    (train, label), (test, truth) = planes(64, generator), planes(128, generator)
    torch.manual_seed(seed)
    network = build_multi_view("resnet10", views, width=width)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate)
    for _ in range(20):
        part = torch.randperm(64, generator=generator)[:32]
        loss = nn.functional.cross_entropy(network(train[part, :views]), label[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        return float((network(test[:, :views]).argmax(1) == truth).float().mean())


RATES = (0.003, 0.01)
WIDTHS = {3: 0.0625, 1: 0.109375}
"""Shares of the published channels that give one view as many parameters as three."""


def best(views: int, seed: int) -> float:
    """The better of two learning rates, for each arm of its own."""
    return max(accuracy(views, WIDTHS[views], seed, rate) for rate in RATES)


def test_a_sign_in_the_sagittal_plane_alone_needs_the_three_views() -> None:
    three, one = (build_multi_view("resnet10", views, width=width) for views, width in WIDTHS.items())
    sizes = [sum(parameter.numel() for parameter in network.parameters()) for network in (three, one)]
    assert abs(sizes[1] / sizes[0] - 1) < 0.1
    assert best(3, 0) > 0.9
    assert best(1, 0) < 0.65


@pytest.mark.slow
def test_the_views_decide_over_five_seeds() -> None:
    three, one = ([best(views, seed) for seed in range(5)] for views in (3, 1))
    gain = paired_test(three, one).difference
    print(f"\naccuracy of three views {np.round(three, 3).tolist()}, of one {np.round(one, 3).tolist()}")
    print(f"gained {gain.value:.3f} ({gain.low:.3f} to {gain.high:.3f})", flush=True)
    assert gain.low > 0
