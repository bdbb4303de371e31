from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from medresnet3d.networks.heads.linear import LinearHead

MODES = [
    {},
    {"feature_scale": 16.0},
    {"unit_weights": True, "bias": False},
    {"feature_scale": 30.0, "unit_weights": True, "bias": False},
]


def head(**mode: Any) -> LinearHead:
    torch.manual_seed(0)
    made = LinearHead(5, 3)
    made.set_mode(**mode)
    return made


def features(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(4, 5, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("x", [features(), torch.zeros(4, 5)])
def test_ordinary_mode_is_a_linear_layer_bit_for_bit(dtype: torch.dtype, x: torch.Tensor) -> None:
    ours, plain = head().to(dtype), nn.Linear(5, 3).to(dtype)
    plain.load_state_dict(ours.state_dict())
    a, b = x.clone().to(dtype).requires_grad_(), x.clone().to(dtype).requires_grad_()
    first, second = ours(a), plain(b)
    assert torch.equal(first, second) and first.dtype == second.dtype
    first.square().sum().backward()
    second.square().sum().backward()
    assert torch.equal(a.grad, b.grad)
    assert torch.equal(ours.weight.grad, plain.weight.grad) and torch.equal(ours.bias.grad, plain.bias.grad)


def test_starts_as_a_linear_layer_of_the_same_seed_and_draws_no_more_random_numbers() -> None:
    torch.manual_seed(3)
    ours, after = LinearHead(5, 3), torch.rand(1)
    torch.manual_seed(3)
    plain, after_plain = nn.Linear(5, 3), torch.rand(1)
    taken, after_taken = LinearHead.from_linear(plain), torch.random.get_rng_state()
    assert torch.equal(ours.weight, plain.weight) and torch.equal(after, after_plain)
    assert taken.weight is plain.weight and torch.equal(taken(features()), plain(features()))
    assert torch.equal(after_taken, torch.random.get_rng_state())
    assert repr(taken) == "LinearHead(in_features=5, out_features=3, bias=True)"


def test_cosine_logits() -> None:
    cosine = head(feature_scale=30.0, unit_weights=True, bias=False)
    x = features()
    expected = 30 * F.cosine_similarity(x[:, None], cosine.weight[None], dim=-1)
    torch.testing.assert_close(cosine(x), expected)


def test_features_of_a_fixed_length_and_features_of_length_zero() -> None:
    l2 = head(feature_scale=16.0)
    torch.testing.assert_close(l2(features()), 16 * F.normalize(features()) @ l2.weight.T + l2.bias)
    assert torch.equal(l2(torch.zeros(2, 5)), l2.bias.expand(2, 3))


@pytest.mark.parametrize("mode", MODES)
def test_a_state_dict_carries_the_mode(mode: dict[str, Any]) -> None:
    trained, file = head(**mode), io.BytesIO()
    torch.save({f"net.{k}": v for k, v in trained.state_dict().items()}, file)
    file.seek(0)
    network = nn.ModuleDict({"net": LinearHead(5, 3)})
    network.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(network["net"](features()), trained(features()))


def test_only_a_special_mode_is_in_the_state_dict() -> None:
    assert list(head().state_dict()) == ["weight", "bias"]
    assert set(head(feature_scale=2.0).state_dict()) == {"weight", "bias", "feature_scale", "unit_weights"}


def test_a_state_dict_without_a_mode_sets_the_ordinary_one() -> None:
    cosine = head(feature_scale=30.0, unit_weights=True)
    plain = nn.Linear(5, 3)
    cosine.load_state_dict(plain.state_dict())
    assert torch.equal(cosine(features()), plain(features()))


def test_a_plain_linear_layer_does_not_take_a_cosine_state_dict_by_mistake() -> None:
    with pytest.raises(RuntimeError, match="Unexpected key"):
        nn.Linear(5, 3).load_state_dict(head(unit_weights=True).state_dict())


@pytest.mark.parametrize("mode", MODES)
def test_scripted_traced_and_exported(mode: dict[str, Any]) -> None:
    ours, x = head(**mode), features()
    expected = ours(x)
    torch.testing.assert_close(torch.jit.script(ours)(x), expected)
    torch.testing.assert_close(torch.jit.trace(ours, x)(x), expected)
    torch.testing.assert_close(torch.export.export(ours, (x,)).module()(x), expected)
    torch.testing.assert_close(copy.deepcopy(ours)(x), expected)


def test_parameters_are_those_of_a_linear_layer() -> None:
    assert sum(p.numel() for p in head().parameters()) == sum(p.numel() for p in nn.Linear(5, 3).parameters())


def test_a_learned_scale_is_trained_and_an_ordinary_head_loads_it() -> None:
    learning = head()
    learning.learn_feature_scale(4.0)
    learning.set_mode(feature_scale=7.0)
    assert float(learning.feature_scale.detach()) == 4.0
    optimizer = torch.optim.SGD(learning.parameters(), 0.1)
    F.cross_entropy(learning(features()), torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()
    assert float(learning.feature_scale.detach()) != 4.0
    other = LinearHead(5, 3)
    other.load_state_dict(learning.state_dict())
    assert torch.equal(other(features()), learning(features()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near(dtype: torch.dtype) -> None:
    cosine = head(feature_scale=30.0, unit_weights=True)
    low = copy.deepcopy(cosine).to(dtype)(features(dtype))
    assert (low.float() - cosine(features())).abs().max() < 0.5
    assert torch.isfinite(copy.deepcopy(cosine).to(dtype)(torch.zeros(2, 5, dtype=dtype))).all()
