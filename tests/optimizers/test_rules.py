"""The rules step as their papers say; the figures are those of f = x^2 / 2 from 1 and of the saddle x^2 - y^2."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.optimizers import RULES, build_optimizer


class Point(nn.Module):
    """A point of the plane; a matrix, so that weight decay acts on it."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([values], dtype=torch.float64))


def walk(name: str, lr: float, steps: int = 3, **options: Any) -> list[float]:
    point = Point(1.0)
    optimizer = build_optimizer(point, name, lr, **options)
    path = []
    for _ in range(steps):
        optimizer.zero_grad()
        (0.5 * point.weight.square()).sum().backward()
        optimizer.step()
        path.append(point.weight.item())
    return path


PATHS = {
    "gd": (0.1, [0.9, 0.81, 0.729]),
    "sgd": (0.1, [0.9, 0.81, 0.729]),
    "mini_batch_gd": (0.1, [0.9, 0.81, 0.729]),
    "momentum": (0.1, [0.9, 0.72, 0.486]),
    "nesterov": (0.1, [0.81, 0.5751, 0.327321]),
    "adagrad": (0.1, [0.9, 0.833104, 0.780456]),
    "adadelta": (1.0, [0.996838, 0.993598, 0.990309]),
    "rmsprop": (0.01, [0.9, 0.832918, 0.779982]),
    "adam": (0.1, [0.9, 0.800412, 0.701586]),
}


@pytest.mark.parametrize("name", PATHS)
def test_first_three_steps(name: str) -> None:
    rate, path = PATHS[name]
    assert walk(name, rate) == pytest.approx(path, abs=5e-7)


def test_every_rule_lowers_the_function_at_its_usual_rate() -> None:
    for name in RULES:
        path = [1.0, *walk(name, RULES[name].usual_rate, 20)]
        assert path == sorted(path, reverse=True), name
        assert walk(name, None, 1) == path[1:2], name  # type: ignore[arg-type]


SADDLE = {"rmsprop": 17, "adadelta": 33, "adam": 77, "nesterov": 89, "momentum": 95, "sgd": 466, "adagrad": 1263}


@pytest.mark.parametrize("name", SADDLE)
def test_steps_to_leave_the_saddle(name: str) -> None:
    """f = x^2 - y^2 from (1, 0.0001) until |y| > 1; the survey has AdaGrad escape fast, plain descent hardly ever."""
    point = Point(1.0, 1e-4)
    optimizer = build_optimizer(point, name, 1.0 if name == "adadelta" else 0.01)
    steps = 0
    while abs(point.weight[0, 1].item()) <= 1:
        optimizer.zero_grad()
        (point.weight[0, 0] ** 2 - point.weight[0, 1] ** 2).backward()
        optimizer.step()
        steps += 1
        assert steps < 3000
    assert steps == SADDLE[name]


def test_weight_decay_is_an_l2_penalty_of_half_its_factor() -> None:
    assert walk("sgd", 0.1, weight_decay=0.1) == pytest.approx([0.89, 0.7921, 0.704969])
    point = Point(1.0)
    optimizer = build_optimizer(point, "sgd", 0.1)
    for expected in (0.89, 0.7921, 0.704969):
        optimizer.zero_grad()
        (0.5 * point.weight.square() + 0.5 * 0.1 * point.weight.square()).sum().backward()
        optimizer.step()
        assert point.weight.item() == pytest.approx(expected)


def test_decoupled_decay_of_adamw_differs_from_adam_with_l2() -> None:
    coupled, decoupled = (walk(name, 0.1, weight_decay=0.5) for name in ("adam", "adamw"))
    # the first step of Adam is as long as the rate whatever the gradient; the decoupled decay comes on top of it
    assert coupled[0] == pytest.approx(0.9)
    assert decoupled[0] == pytest.approx(0.9 - 0.1 * 0.5)


@pytest.mark.parametrize("name", RULES)
def test_decay_spares_norms_and_biases_in_every_rule(name: str) -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.PReLU())
    before = {key: value.clone() for key, value in network.named_parameters()}
    optimizer = build_optimizer(network, name, 0.1, weight_decay=0.5)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moved = {key for key, value in network.named_parameters() if not torch.equal(value, before[key])}
    assert moved == {"0.weight"}


def test_options_go_to_the_rule() -> None:
    assert walk("momentum", 0.1, momentum=0.0) == walk("sgd", 0.1)
    assert build_optimizer(Point(1.0), "adam", betas=(0.8, 0.9)).defaults["betas"] == (0.8, 0.9)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("adan", {}, r"Optimizer 'adan' is unknown; choose one of .*adadelta.*Did you mean 'adam'"),
        ("sgd", {"betas": (0, 1)}, "'sgd' has no option 'betas'; it takes dampening"),
        ("adam", {"lr": -1.0}, "'adam' cannot be made: Invalid learning rate: -1.0"),
        ("nesterov", {"momentum": 0.0}, "'nesterov' cannot be made: Nesterov momentum requires"),
    ],
)
def test_wrong_names_and_values(name: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build_optimizer(Point(1.0), name, **options)
