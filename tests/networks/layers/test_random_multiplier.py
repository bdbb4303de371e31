from __future__ import annotations

import pytest
import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks.layers.random_multiplier import DISTRIBUTIONS, RandomMultiplier


def linear_branches(count: int, distribution: str) -> RandomMultiplier:
    torch.manual_seed(0)
    return RandomMultiplier([nn.Linear(3, 2) for _ in range(count)], distribution)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("count", [2, 4])
def test_evaluation_is_the_mean_of_training_over_ten_thousand_draws(distribution: str, count: int) -> None:
    layer, x = linear_branches(count, distribution), torch.tensor([[1.0, -2.0, 0.5]])
    with torch.no_grad():
        drawn = layer.train()(x.expand(10_000, 3))
        torch.testing.assert_close(layer.eval()(x)[0], drawn.mean(0), rtol=0, atol=0.02)
    assert float(drawn.std(0).min()) > 0.01


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_one_branch_is_itself(distribution: str) -> None:
    layer, x = linear_branches(1, distribution), torch.randn(5, 3)
    for training in (True, False):
        assert torch.equal(layer.train(training)(x), layer.branches[0](x))


def test_multipliers_are_those_of_the_distribution_and_new_for_each_sample() -> None:
    x = torch.zeros(20_000, 1)
    for distribution in ("simplex", "softmax"):
        m = linear_branches(3, distribution).train().multipliers(x)
        torch.testing.assert_close(m.sum(1), torch.ones(len(x)))
        assert float(m.min()) >= 0
        assert not torch.equal(m[0], m[1])
    # uniform on the simplex: of two branches the first has a uniform share
    share = linear_branches(2, "simplex").train().multipliers(x)[:, 0].sort().values
    assert float((share - torch.linspace(0, 1, len(x))).abs().max()) < 0.02
    uniform = linear_branches(3, "uniform").train().multipliers(x)
    assert float(uniform.sum(1).std()) == pytest.approx((3 / 12) ** 0.5, abs=0.02)
    assert float(uniform.mean()) == pytest.approx(0.5, abs=0.01)


def test_gradient_of_each_branch_is_weighted_by_its_multiplier() -> None:
    layer, x = linear_branches(2, "simplex").train(), torch.ones(1, 3)
    layer(x).sum().backward()
    shares = [branch.bias.grad[0].item() for branch in layer.branches]
    assert sum(shares) == pytest.approx(1)
    assert all(0 < share < 1 for share in shares)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_images_of_any_dimension_and_dtype(dtype: torch.dtype) -> None:
    layer = RandomMultiplier([nn.Conv3d(1, 2, 1), nn.Conv3d(1, 2, 1)]).to(dtype)
    image = torch.randn(3, 1, 4, 4, 4, dtype=dtype)
    assert layer(image).shape == (3, 2, 4, 4, 4)
    assert layer(image).dtype == dtype


def test_a_scripted_layer_gives_the_same_in_evaluation() -> None:
    layer, x = linear_branches(3, "softmax").eval(), torch.randn(4, 3)
    torch.testing.assert_close(torch.jit.script(layer)(x), layer(x))


def test_random_weights_keep_branches_from_leaning_on_each_other() -> None:
    """Two branches trained on one target: with fixed weights they share it out, with random ones each learns it."""

    def disagreement(random: bool) -> float:
        torch.manual_seed(0)
        layer = RandomMultiplier([nn.Linear(4, 1) for _ in range(2)])
        x = torch.randn(64, 4)
        target = x.sum(1, keepdim=True)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.05)
        for _ in range(300):
            optimizer.zero_grad()
            (layer.train(random)(x) - target).square().mean().backward()
            optimizer.step()
        with torch.no_grad():
            first, second = (branch(x) for branch in layer.branches)
            assert (layer.eval()(x) - target).square().mean() < 0.05
            return float((first - second).square().mean())

    assert disagreement(random=True) < 0.1 * disagreement(random=False)


@pytest.mark.parametrize(("branches", "distribution"), [([], "simplex"), ([nn.Identity()], "gauss")])
def test_no_branch_or_an_unknown_distribution_is_refused(branches: list[nn.Module], distribution: str) -> None:
    with pytest.raises(ConfigError, match=r"one or more|use one of"):
        RandomMultiplier(branches, distribution)
