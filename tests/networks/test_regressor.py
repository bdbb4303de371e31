from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.networks.regressor import NumberRegressor, build_regressor
from tests.networks.base import NetworkSuite


class TestNumberRegressor(NetworkSuite):
    counts = (
        ({"spatial_dims": 3, "size": "paper", "arch": "resnet18"}, 33_160_513),
        ({"spatial_dims": 3, "size": "slim", "arch": "resnet18"}, 2_078_545),
    )

    def build(self, spatial_dims: int = 3, **options: Any) -> nn.Module:
        chosen = {"arch": "resnet10", "size": "slim", "mean": 50.0, "deviation": 18.0} | options
        return build_regressor(spatial_dims=spatial_dims, **chosen)

    def output_shape(self, image: Tensor) -> tuple[int, ...]:
        return (image.shape[0], 1)


class _Linear(nn.Module):
    """Gives the mean of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).mean(1, keepdim=True)


def test_the_output_is_on_the_scale_of_the_truth() -> None:
    network = NumberRegressor(_Linear(), 50.0, 20.0)
    assert network(torch.full((1, 1, 2, 2), 0.5)).item() == 60.0


def test_the_correction_undoes_a_lean_to_the_mean_and_acts_in_eval_mode_alone() -> None:
    truth = torch.linspace(20, 80, 13)
    network = NumberRegressor(_Linear(), 0.0, 1.0).eval()
    estimate = 25 + 0.5 * truth
    network.fit_correction(estimate, truth)
    corrected = network(estimate[:, None, None])
    torch.testing.assert_close(corrected[:, 0], truth)
    assert torch.equal(network.train()(estimate[:, None, None])[:, 0], estimate)
    network.reset_correction()
    assert torch.equal(network.eval()(estimate[:, None, None])[:, 0], estimate)


def test_corrected_differences_have_no_slope_over_the_truth() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = 20 + 60 * torch.rand(200, generator=generator)
    estimate = 30 + 0.4 * truth + 4 * torch.randn(200, generator=generator)
    network = NumberRegressor(_Linear(), 0.0, 1.0).eval()
    network.fit_correction(estimate, truth)
    difference = network(estimate[:, None, None])[:, 0] - truth
    slope = ((truth - truth.mean()) * difference).sum() / ((truth - truth.mean()) ** 2).sum()
    assert abs(float(slope)) < 1e-5 and abs(float(difference.mean())) < 1e-4


@pytest.mark.parametrize(
    ("estimate", "truth", "message"),
    [
        ([1.0, 2.0], [1.0, 2.0], "2 validation cases"),
        ([1.0, 2.0, 3.0], [5.0, 5.0, 5.0], "1 different true values"),
        ([50.0, 51.0, 52.0], [20.0, 50.0, 80.0], r"rise by 0\.03"),
    ],
)
def test_what_cannot_be_corrected_is_left(estimate: list[float], truth: list[float], message: str) -> None:
    network = NumberRegressor(_Linear(), 0.0, 1.0)
    with pytest.raises(DataError, match=message):
        network.fit_correction(torch.tensor(estimate), torch.tensor(truth))
    assert (network.slope.item(), network.intercept.item()) == (1.0, 0.0)


def test_a_spread_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="must be positive"):
        build_regressor("resnet10", deviation=0.0, size="slim")
