from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks.layers.noisy_softplus import NoisySoftplus, NSPConv, NSPLinear, noisy_softplus


@pytest.mark.parametrize(
    ("k", "sigma", "x", "expected"),
    [
        (0.16, 0.5, -0.1, 0.020154),
        (0.16, 0.5, 0.0, 0.055452),
        (0.16, 0.5, 0.1, 0.120154),
        (0.16, 0.5, 1.0, 1.000000),
        (0.2, 1.0, -0.1, 0.094815),
        (0.2, 1.0, 0.0, 0.138629),
        (0.2, 1.0, 1.0, 1.001343),
    ],
)
def test_values_of_the_specification(k: float, sigma: float, x: float, expected: float) -> None:
    value = torch.tensor(x, dtype=torch.float64)
    assert float(NoisySoftplus(k, sigma)(value)) == pytest.approx(expected, abs=1e-6)
    assert float(noisy_softplus(value, torch.tensor(sigma), k)) == pytest.approx(expected, abs=1e-6)


def test_derivatives_of_the_specification() -> None:
    x = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    sigma = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    by_x, by_sigma = torch.autograd.grad(noisy_softplus(x, sigma, 0.16), (x, sigma))
    assert float(by_x) == pytest.approx(0.777300, abs=1e-6)
    assert float(by_sigma) == pytest.approx(0.084849, abs=1e-6)
    assert torch.autograd.gradcheck(lambda a, b: noisy_softplus(a, b, 0.16), (x, sigma))


@given(st.floats(-50, 50), st.floats(1e-3, 5), st.floats(0.05, 1))
def test_it_lies_above_relu_by_at_most_its_value_at_zero(x: float, sigma: float, k: float) -> None:
    value = torch.tensor(x, dtype=torch.float64)
    excess = float(noisy_softplus(value, torch.tensor(sigma, dtype=torch.float64), k) - F.relu(value))
    assert -1e-12 <= excess <= k * sigma * 0.69314719
    assert float(NoisySoftplus(k, sigma)(value) - F.relu(value)) == pytest.approx(excess, abs=1e-8)


def test_without_noise_it_is_relu_with_finite_gradients() -> None:
    x = torch.tensor([-1.0, 0.0, 2.0], requires_grad=True)
    sigma = torch.zeros(3, requires_grad=True)
    y = noisy_softplus(x, sigma)
    y.sum().backward()
    assert torch.equal(y, F.relu(x))
    assert torch.equal(NoisySoftplus(sigma=0.0)(x), F.relu(x))
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(sigma.grad).all()


def by_hand(weight: torch.Tensor, rates: torch.Tensor, k: float, tau: float, scale: float) -> torch.Tensor:
    """One fully connected layer, neuron by neuron."""
    rows = []
    for w in weight:
        x = (w * rates).sum(1) * tau
        sigma = (0.5 * w**2 * rates).sum(1).mul(tau).sqrt()
        rows.append(scale * k * sigma * torch.log1p(torch.exp(x / (k * sigma))))
    return torch.stack(rows, 1)


def test_linear_layer_has_mean_and_noise_from_the_same_weights() -> None:
    torch.manual_seed(0)
    layer, rates = NSPLinear(5, 3, k=0.35, tau=0.01, scale=201.0).double(), 100 * torch.rand(4, 5).double()
    expected = by_hand(layer.synapses.weight, rates, 0.35, 0.01, 201.0)
    torch.testing.assert_close(layer(rates), expected)
    assert [name for name, _ in layer.named_parameters()] == ["synapses.weight"]


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_convolution_is_the_linear_layer_of_each_patch(spatial_dims: int) -> None:
    torch.manual_seed(0)
    layer = NSPConv(spatial_dims, 2, 3, kernel_size=3, padding=0).double()
    patch = torch.rand(4, 2, *[3] * spatial_dims).double()
    expected = by_hand(layer.synapses.weight.flatten(1), patch.flatten(1), 0.19, 1.0, 1.0)
    torch.testing.assert_close(layer(patch).flatten(1), expected)
    assert NSPConv(spatial_dims, 2, 3)(torch.rand(1, 2, *[6] * spatial_dims)).shape == (1, 3, *[6] * spatial_dims)


def test_noise_passes_from_layer_to_layer() -> None:
    """Weights that cancel give the second layer no mean, but noise, which lifts its rate above zero."""
    first, second = NSPLinear(1, 2), NSPLinear(2, 1)
    with torch.no_grad():
        first.synapses.weight.fill_(1.0)
        second.synapses.weight.copy_(torch.tensor([[1.0, -1.0]]))
        low, high = (float(second(first(torch.tensor([[rate]])))) for rate in (1.0, 100.0))
    assert 0 < low < high


def test_layers_are_scripted_trained_and_silent_without_input() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(NSPConv(2, 1, 2), nn.Flatten(), NSPLinear(32, 2))
    image = torch.rand(3, 1, 4, 4)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image))
    network(torch.cat([image, torch.zeros(1, 1, 4, 4)])).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())
    assert float(network(torch.zeros(1, 1, 4, 4)).abs().max()) < 1e-5


@pytest.mark.parametrize(
    "make",
    [
        lambda: NoisySoftplus(k=0.0),
        lambda: NoisySoftplus(sigma=-1.0),
        lambda: NSPLinear(1, 1, tau=0.0),
        lambda: NSPConv(2, 1, 1, scale=-1.0),
    ],
)
def test_impossible_constants_are_refused(make: object) -> None:
    with pytest.raises(ConfigError, match=r"give k > 0|must be positive"):
        make()
