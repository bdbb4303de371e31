from __future__ import annotations

import pytest
import torch

from medresnet3d.errors import ConfigError
from medresnet3d.networks.layers.rrelu import PaperRReLU


def test_training_draws_the_divisor_uniformly_and_not_the_slope() -> None:
    torch.manual_seed(0)
    x = torch.full((200_000,), -1.0, dtype=torch.float64)
    divisor = -1 / PaperRReLU().train()(x)
    assert divisor.min() >= 3
    assert divisor.max() <= 8
    assert float(divisor.mean()) == pytest.approx(5.5, abs=0.02)
    quarters = torch.histc(divisor, 5, 3, 8) / len(x)
    assert float((quarters - 0.2).abs().max()) < 0.01


def test_evaluation_divides_by_the_mean_divisor_and_leaves_positive_numbers() -> None:
    layer, x = PaperRReLU().eval(), torch.tensor([-2.0, -1.0, 0.0, 3.0])
    torch.testing.assert_close(layer(x), torch.tensor([-2 / 5.5, -1 / 5.5, 0.0, 3.0]))
    assert torch.equal(layer.train()(x)[2:], x[2:])


def test_gradient_is_the_drawn_slope() -> None:
    x = torch.tensor([-2.0, 4.0], requires_grad=True)
    y = PaperRReLU().train()(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad, (y / x).detach())


@pytest.mark.parametrize("bounds", [(0, 8), (-1, 2), (8, 3)])
def test_impossible_divisors_are_refused(bounds: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="0 < lower <= upper"):
        PaperRReLU(*bounds)
