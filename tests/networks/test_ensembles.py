"""Fusion rules: their algebra, and that fused experts beat each of them."""

from __future__ import annotations

import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.losses.deep_supervision import FadingDeepSupervisionLoss
from medresnet3d.networks.ensembles import RULES, Ensemble, build_ensemble, fuse, member_accuracies
from tests.networks.base import NetworkSuite

rules = pytest.mark.parametrize("rule", RULES)
seeds = given(seed=st.integers(0, 2**31), members=st.integers(1, 6), classes=st.integers(2, 5))
few = settings(max_examples=30, deadline=None)


def opinions(seed: int, members: int, classes: int, cases: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(members, cases, classes, generator=generator, dtype=torch.float64)
    return logits.log_softmax(2)


@rules
@few
@seeds
def test_the_result_is_a_probability_and_the_order_of_members_is_indifferent(
    rule: str, seed: int, members: int, classes: int
) -> None:
    logs, weights = opinions(seed, members, classes), torch.rand(members).double() + 0.1
    fused = fuse(logs, rule, weights).exp()
    torch.testing.assert_close(fused.sum(1), torch.ones(7).double())
    order = torch.randperm(members, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(fuse(logs[order], rule, weights[order]).exp(), fused)


@rules
@few
@seeds
def test_the_order_of_classes_is_indifferent(rule: str, seed: int, members: int, classes: int) -> None:
    logs, weights = opinions(seed, members, classes), torch.rand(members).double() + 0.1
    order = torch.randperm(classes, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(fuse(logs[..., order], rule, weights), fuse(logs, rule, weights)[..., order])


@rules
@few
@seeds
def test_members_of_one_opinion_are_followed(rule: str, seed: int, members: int, classes: int) -> None:
    one = opinions(seed, 1, classes)
    fused = fuse(one.repeat(members, 1, 1), rule, torch.ones(members))
    assert torch.equal(fused.argmax(1), one[0].argmax(1))
    if rule in ("sum", "max", "acc_weighted_sum"):
        torch.testing.assert_close(fused, one[0])


def by_hand(rule: str, *members: list[float], weights: list[float] | None = None) -> list[float]:
    logs = torch.tensor(members).double().log()[:, None]
    fused = fuse(logs, rule, None if weights is None else torch.tensor(weights))
    return [round(value, 4) for value in fused.exp()[0].tolist()]


def test_the_rules_by_hand() -> None:
    a, b = [0.6, 0.3, 0.1], [0.2, 0.5, 0.3]
    assert by_hand("sum", a, b) == [0.4, 0.4, 0.2]
    assert by_hand("product", a, b) == [0.4, 0.5, 0.1]
    assert by_hand("max", a, b) == [0.4286, 0.3571, 0.2143]
    assert by_hand("acc_weighted_sum", a, b, weights=[0.9, 0.3]) == [0.5, 0.35, 0.15]
    assert by_hand("majority", a, b) == [round(1.4 / 3, 4), round(1.4 / 3, 4), round(0.2 / 3, 4)]


def test_a_tie_of_votes_goes_to_the_highest_sum() -> None:
    fused = by_hand("majority", [0.6, 0.4, 0.0], [0.05, 0.95, 0.0])
    assert fused[1] > fused[0]


def test_no_sum_of_probabilities_overturns_a_majority() -> None:
    fused = by_hand("majority", [0.51, 0.49], [0.51, 0.49], [0.0, 1.0])
    assert fused[0] > fused[1]
    assert by_hand("sum", [0.51, 0.49], [0.51, 0.49], [0.0, 1.0])[1] > 0.5


def test_a_member_that_rules_a_class_out_leaves_all_finite() -> None:
    logs = torch.tensor([[[0.0, -200.0]], [[-300.0, 0.0]]])
    for rule in RULES:
        assert torch.isfinite(fuse(logs, rule, torch.ones(2))).all()


@rules
def test_four_experts_together_beat_the_best_of_them(rule: str) -> None:
    """Condorcet: independent experts, each right in about 70 of 100 cases, surer where they are right."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(3, (4000,), generator=generator)
    logits = torch.randn(4, 4000, 3, generator=generator)
    logits += 1.35 * nn.functional.one_hot(truth, 3)
    logs = logits.log_softmax(2)
    weights = member_accuracies(logs[:, :1000], truth[:1000])
    single = (logs.argmax(2) == truth)[:, 1000:].float().mean(1)
    together = (fuse(logs, rule, weights).argmax(1) == truth)[1000:].float().mean()
    assert single.min() > 0.66 and single.max() < 0.74
    assert together > single.max() + 0.05


def test_weights_are_the_accuracies_on_the_cases_given() -> None:
    logs = torch.tensor([[[0.9, 0.1], [0.2, 0.8]], [[0.4, 0.6], [0.3, 0.7]]]).log()
    assert member_accuracies(logs, torch.tensor([0, 1])).tolist() == [1.0, 0.5]
    with pytest.raises(DataError, match="no validation case"):
        member_accuracies(logs[:, :0], torch.zeros(0, dtype=torch.int64))
    with pytest.raises(DataError, match="train the members first"):
        member_accuracies(logs[1:, :1], torch.tensor([0]))


class Constant(nn.Module):
    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits.expand(len(x), -1)


def test_the_weights_are_part_of_the_state() -> None:
    ensemble = Ensemble([Constant(5.0, 0.0), Constant(0.0, 5.0)]).eval()
    images = torch.zeros(4, 1, 2, 2)
    assert abs(float(ensemble(images)[0].exp()[0]) - 0.5) < 1e-6
    ensemble.put("weights", [0.75, 0.25])
    file = io.BytesIO()
    torch.save(ensemble.state_dict(), file)
    file.seek(0)
    other = Ensemble([Constant(0.0, 0.0), Constant(0.0, 0.0)]).eval()
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(images), ensemble(images)) and int(ensemble(images)[0].argmax()) == 0


def test_all_members_learn_together_in_training_mode() -> None:
    ensemble = build_ensemble(["resnet10", "vgg16"], num_classes=3, size="slim", rule="product").train()
    outputs = ensemble(torch.rand(2, 3, 32, 32))
    assert [tuple(each.shape) for each in outputs] == [(2, 3)] * 3
    FadingDeepSupervisionLoss(nn.CrossEntropyLoss())(outputs, torch.tensor([0, 2])).backward()
    assert all(parameter.grad is not None for parameter in ensemble.parameters())


def test_without_joint_training_a_member_learns_as_if_it_were_alone() -> None:
    torch.manual_seed(0)
    ensemble = build_ensemble(["resnet10", "resnet10"], num_classes=3, size="slim", joint=False).train()
    images, labels = torch.rand(2, 3, 32, 32), torch.tensor([0, 2])
    FadingDeepSupervisionLoss(nn.CrossEntropyLoss(), start=1.0, end=1.0)(ensemble(images), labels).backward()
    member = ensemble.members[0]
    together = [parameter.grad.clone() for parameter in member.parameters()]  # type: ignore[union-attr]
    member.zero_grad()
    nn.functional.cross_entropy(member(images), labels).backward()
    for parameter, expected in zip(member.parameters(), together, strict=True):
        torch.testing.assert_close(parameter.grad, expected)


def test_an_unknown_rule_or_an_empty_ensemble_is_refused() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'product'"):
        build_ensemble(["resnet10"], rule="produkt", size="slim")
    with pytest.raises(ConfigError, match="at least one member"):
        Ensemble([])


class TestEnsemble(NetworkSuite):
    def build(self, spatial_dims: int = 3, **options: object) -> nn.Module:
        return build_ensemble(["resnet10", "resnet10"], spatial_dims, 1, 2, "slim")


def test_a_member_may_have_options_of_its_own() -> None:
    slim = {"arch": "vgg11_bn", "width": 0.0625, "pool_size": 1}
    network = build_ensemble([slim, "resnet10"], num_classes=3, size="slim", norm="batch")
    first, second = network.members
    assert first.features[0].out_channels == 4 and first.hidden[0].in_features == 32
    assert second.conv1.out_channels == 16
    assert network.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 3)
    with pytest.raises(ConfigError, match="resnet10 has no hidden layers, so no pool_size"):
        build_ensemble([{"arch": "resnet10", "pool_size": 2}])
