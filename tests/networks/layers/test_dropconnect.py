from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks.layers.dropconnect import (
    DropConnectConv,
    DropConnectHead,
    DropConnectLinear,
    gaussian_draws,
)

V = torch.tensor([[3.0, 4.0]])
EXPECTED_RELU = 5.699742  # of ReLU under N(5.5, 18.25): mu Phi(mu / s) + s phi(mu / s)


def example(**options: Any) -> DropConnectLinear:
    """The specification's example: W = [[1, 2]], no bias, p = 0.5."""
    layer = DropConnectLinear(2, 1, 0.5, bias=False, **options)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0]]))
    return layer


def closed_form(mean: float, deviation: float) -> float:
    ratio = mean / deviation
    density = math.exp(-0.5 * ratio**2) / math.sqrt(2 * math.pi)
    return mean * 0.5 * math.erfc(-ratio / math.sqrt(2)) + deviation * density


def test_moments_and_the_enumeration_of_all_masks() -> None:
    layer = example()
    mean, deviation = layer.moments(V)
    assert mean.item() == pytest.approx(5.5)
    assert deviation.item() ** 2 == pytest.approx(18.25)
    outcomes = [max(0.0, 3 * a + 8 * b) for a, b in product((0, 1), repeat=2)]
    assert sum(outcomes) / 4 == 5.5
    assert closed_form(5.5, math.sqrt(18.25)) == pytest.approx(EXPECTED_RELU, abs=1e-6)
    assert layer.eval()(V).item() == pytest.approx(5.5)  # without an activation: the mean of the weights


@pytest.mark.parametrize(("inference", "draws", "error"), [("sampling", 200_000, 0.03), ("quantiles", 4000, 0.003)])
def test_inference_converges_to_the_expectation_under_the_gaussian(inference: str, draws: int, error: float) -> None:
    layer = example(activation=nn.ReLU(), draws=draws, inference=inference).eval()
    with torch.no_grad():
        assert layer(V).item() == pytest.approx(EXPECTED_RELU, abs=error)
        assert torch.equal(layer(V), layer(V))


def test_training_masks_have_the_moments_and_are_new_for_each_example_and_call() -> None:
    torch.manual_seed(0)
    layer = DropConnectLinear(3, 2, keep=0.7)
    x = torch.tensor([[1.0, -2.0, 3.0]]).expand(100_000, 3)
    with torch.no_grad():
        found, again = layer.train()(x), layer(x)
        mean, deviation = layer.moments(x[:1])
    assert not torch.equal(found, again)
    torch.testing.assert_close(found.mean(0), mean[0], rtol=0.02, atol=0.01)
    torch.testing.assert_close(found.std(0), deviation[0], rtol=0.02, atol=0.01)
    correlation = torch.corrcoef(found.T)[0, 1]  # each weight has its own mask, so units are independent
    assert abs(float(correlation)) < 0.02


def test_the_bias_is_masked_too() -> None:
    layer = DropConnectLinear(1, 1, keep=0.25)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.fill_(1.0)
        torch.manual_seed(0)
        found = layer.train()(torch.ones(20_000, 1))
    assert set(found.flatten().tolist()) == {0.0, 1.0}
    assert float(found.mean()) == pytest.approx(0.25, abs=0.01)


def test_a_kept_layer_is_a_linear_one() -> None:
    torch.manual_seed(0)
    layer, x = DropConnectLinear(5, 3, keep=1.0, activation=nn.Tanh()), torch.randn(4, 5)
    expected = torch.tanh(nn.functional.linear(x, layer.weight, layer.bias))
    torch.testing.assert_close(layer.train()(x), expected)
    torch.testing.assert_close(layer.eval()(x), expected)


def test_gradient_reaches_kept_weights_alone() -> None:
    torch.manual_seed(0)
    layer = DropConnectLinear(8, 8, keep=0.5)
    layer.train()(torch.ones(1, 8)).sum().backward()
    assert 0.2 < float((layer.weight.grad == 0).float().mean()) < 0.8


def test_head_gives_the_expected_probability_as_logits() -> None:
    """Against masks drawn by hand: closer than the softmax of the mean weights."""
    torch.manual_seed(0)
    head, x = DropConnectHead(20, 3, keep=0.5, draws=20_000), torch.randn(1, 20)
    with torch.no_grad():
        head.weight.mul_(6)
        drawn = torch.softmax(head.train()(x.expand(100_000, 20)), 1).mean(0)
        found = torch.softmax(head.eval()(x), 1)[0]
        shortcut = torch.softmax(head.moments(x)[0], 1)[0]
    assert float((found - drawn).abs().max()) < 0.02
    assert float((found - drawn).abs().max()) < 0.2 * float((shortcut - drawn).abs().max())


def test_head_of_a_regression_gives_the_mean() -> None:
    head, x = DropConnectHead(4, 1), torch.randn(3, 4)
    torch.testing.assert_close(head.eval()(x), 0.5 * nn.functional.linear(x, head.weight, head.bias))


def test_draws_are_seeded_no_state_and_independent_of_the_batch() -> None:
    assert torch.equal(gaussian_draws("sampling", 5, 2, seed=1), gaussian_draws("sampling", 5, 2, seed=1))
    assert not torch.equal(gaussian_draws("sampling", 5, 2, seed=1), gaussian_draws("sampling", 5, 2, seed=2))
    quantiles = gaussian_draws("quantiles", 1001, 3, 0)
    assert quantiles.shape == (1001, 1)
    assert float(quantiles.mean()) == pytest.approx(0, abs=1e-6)
    assert float(quantiles.std()) == pytest.approx(1, abs=0.01)
    layer, x = DropConnectLinear(4, 2, activation=nn.ReLU()).eval(), torch.randn(5, 4)
    assert set(layer.state_dict()) == {"weight", "bias"}
    torch.testing.assert_close(layer(x)[:1], layer(x[:1]))


@pytest.mark.parametrize("kind", [DropConnectLinear, DropConnectHead])
def test_a_layer_in_evaluation_is_scripted_and_exported(kind: type[DropConnectLinear]) -> None:
    layer, x = kind(4, 3).eval(), torch.randn(5, 4)
    torch.testing.assert_close(torch.jit.script(layer)(x), layer(x))
    torch.testing.assert_close(torch.export.export(layer, (x,)).module()(x), layer(x))


@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
def test_convolution_masks_kernels_for_each_example_and_not_for_each_place(spatial_dims: int) -> None:
    torch.manual_seed(0)
    layer = DropConnectConv(spatial_dims, 2, 3, 3, keep=0.5, padding=1, bias=False)
    image = torch.ones(64, 2, *[6] * spatial_dims)
    with torch.no_grad():
        output = layer.train()(image)
    inner = output[(slice(None), slice(None), *[slice(1, -1)] * spatial_dims)].flatten(2)
    torch.testing.assert_close(inner, inner[..., :1].expand_as(inner))  # an even image gives an even output
    assert float(inner[..., 0].std(0).min()) > 0


def test_convolution_has_the_moments_of_the_linear_layer_of_each_patch() -> None:
    torch.manual_seed(0)
    conv, linear = DropConnectConv(2, 2, 3, 3, keep=0.6, activation=nn.ReLU()), DropConnectLinear(18, 3, keep=0.6)
    linear.weight = nn.Parameter(conv.conv.weight.detach().flatten(1))
    linear.bias = conv.conv.bias
    patch = torch.randn(5, 2, 3, 3)
    for found, expected in zip(conv.moments(patch), linear.moments(patch.flatten(1)), strict=True):
        torch.testing.assert_close(found.flatten(1), expected)
    with torch.no_grad():
        drawn = torch.stack([conv.train()(patch) for _ in range(3000)]).mean(0)
        torch.testing.assert_close(conv.eval()(patch), drawn, rtol=0.1, atol=0.03)
        assert DropConnectConv(2, 2, 3, stride=2)(torch.randn(2, 2, 9, 9)).shape == (2, 3, 4, 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DropConnectLinear(1, 1, keep=0.0), "more than 0"),
        (lambda: DropConnectLinear(1, 1, keep=1.5), "at most 1"),
        (lambda: DropConnectLinear(1, 1, draws=0), "1 or more"),
        (lambda: DropConnectLinear(1, 1, inference="mean"), "sampling, quantiles"),
        (lambda: DropConnectConv(2, 4, 4, groups=2), "one group"),
    ],
)
def test_impossible_options_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_it_keeps_a_wide_layer_from_learning_noise_by_heart() -> None:
    """Forty badly labelled samples of a linear rule in a hundred dimensions: new ones are told apart better with it."""

    def error(keep: float, seed: int) -> float:
        torch.manual_seed(seed)
        rule = torch.randn(100) * (torch.arange(100) < 5)
        x, new = torch.randn(40, 100), torch.randn(1000, 100)
        label, truth = ((x @ rule + 3 * torch.randn(40)) > 0).long(), ((new @ rule) > 0).long()
        head = DropConnectHead(100, 2, keep=keep)
        optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
        for _ in range(150):
            optimizer.zero_grad()
            nn.functional.cross_entropy(head.train()(x), label).backward()
            optimizer.step()
        with torch.no_grad():
            return nn.functional.cross_entropy(head.eval()(new), truth).item()

    with_it, without = (sum(error(keep, seed) for seed in range(5)) / 5 for keep in (0.5, 1.0))
    assert with_it < 0.8 * without
