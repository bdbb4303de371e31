from __future__ import annotations

import pytest
import torch
from torch import nn

from medresnet3d.optimizers import build_optimizer, l1_penalty, regularised_parameters, soft_threshold


def test_penalty_is_the_sum_of_absolute_weights_and_its_gradient_their_sign() -> None:
    weights = [nn.Parameter(torch.tensor([[1.0, -2.0]])), nn.Parameter(torch.tensor([[-0.5]]))]
    penalty = l1_penalty(weights, 0.1)
    penalty.backward()
    assert penalty.item() == pytest.approx(0.35)
    assert weights[0].grad is not None and weights[0].grad.tolist() == [[pytest.approx(0.1), pytest.approx(-0.1)]]


def test_soft_threshold_by_the_rate_of_each_group() -> None:
    first, second, other = (nn.Parameter(torch.tensor([[0.3, -0.3, 0.05]])) for _ in range(3))
    groups = [{"params": [first], "lr": 0.1}, {"params": [second], "lr": 0.2}, {"params": [other], "lr": 1.0}]
    optimizer = torch.optim.SGD(groups)
    for parameter in (first, second, other):
        parameter.grad = torch.zeros_like(parameter)
    soft_threshold(optimizer, [first, second], 1.0)
    torch.testing.assert_close(first.data, torch.tensor([[0.2, -0.2, 0.0]]))
    torch.testing.assert_close(second.data, torch.tensor([[0.1, -0.1, 0.0]]))
    assert first[0, 2] == 0.0
    torch.testing.assert_close(other.data, torch.tensor([[0.3, -0.3, 0.05]]))


def test_frozen_weights_are_not_shrunk() -> None:
    frozen = nn.Parameter(torch.ones(1, 1), requires_grad=False)
    soft_threshold(torch.optim.SGD([frozen], lr=0.1), [frozen], 1.0)
    assert frozen.item() == 1.0


def regression() -> tuple[torch.Tensor, torch.Tensor]:
    """200 samples of ten features, of which three matter."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(200, 10, generator=generator)
    true = torch.tensor([2.0, -1.0, 0.5] + [0.0] * 7)
    return features, features @ true + 0.1 * torch.randn(200, generator=generator)


def lasso(proximal: bool) -> torch.Tensor:
    """Fit the coefficients by gradient descent with L1."""
    features, target = regression()
    torch.manual_seed(0)
    network = nn.Linear(10, 1)
    optimizer, weights = build_optimizer(network, "gd", 0.05), regularised_parameters(network)
    for _ in range(1000):
        optimizer.zero_grad()
        loss = 0.5 * (network(features)[:, 0] - target).square().mean()
        (loss if proximal else loss + l1_penalty(weights, 0.1)).backward()
        optimizer.step()
        if proximal:
            soft_threshold(optimizer, weights, 0.1)
    return network.weight.detach()[0]


def test_proximal_steps_solve_the_lasso_with_exact_zeros_where_the_penalty_only_comes_near() -> None:
    from sklearn.linear_model import Lasso

    features, target = regression()
    # scikit-learn minimises ||y - Xw||^2 / (2 n) + alpha |w|, the same problem
    oracle = torch.tensor(Lasso(alpha=0.1).fit(features.numpy(), target.numpy()).coef_)
    exact, near = lasso(proximal=True), lasso(proximal=False)
    torch.testing.assert_close(exact, oracle, atol=2e-3, rtol=0)
    assert ((exact == 0) == (oracle == 0)).all() and (exact == 0).sum() == 7
    torch.testing.assert_close(near, exact, atol=2e-2, rtol=0)
    assert (near == 0).sum() == 0
