"""Two levels of classes whose probabilities are consistent."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medresnet3d.errors import ConfigError
from medresnet3d.networks.heads.hierarchical import HierarchicalHead, groups_of, log_sum_of_groups
from tests.networks.heads.hierarchy_toy import cases, distances, fitted


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(0, 1000))
def test_children_add_up_to_their_parent(draws: list[int], seed: int) -> None:
    groups = [sorted(set(draws)).index(each) for each in draws]
    torch.manual_seed(seed)
    head, features = HierarchicalHead(6, groups), 5 * torch.randn(4, 6)
    logs = head(features)
    torch.testing.assert_close(logs.exp().sum(1), torch.ones(4))
    torch.testing.assert_close(
        log_sum_of_groups(logs, torch.tensor(groups), max(groups) + 1),
        head.coarse(features).log_softmax(1),
        atol=1e-5,
        rtol=1e-5,
    )


def test_a_group_of_one_class_has_the_probability_of_the_class() -> None:
    head = HierarchicalHead(3, [0, 1, 1])
    features = torch.randn(5, 3)
    torch.testing.assert_close(head(features)[:, 0], head.coarse(features).log_softmax(1)[:, 0])


def test_scripted_and_gradient() -> None:
    head, features = HierarchicalHead(3, [0, 1, 1, 0]), torch.randn(5, 3)
    torch.testing.assert_close(torch.jit.script(head)(features), head(features))
    (-head(features)[:, 2]).sum().backward()
    assert all(torch.isfinite(each.grad).all() and each.grad.abs().sum() > 0 for each in head.parameters())


@pytest.mark.parametrize("groups", [[], [1, 1], [0, 2]])
def test_groups_with_gaps_are_refused(groups: list[int]) -> None:
    with pytest.raises(ConfigError, match="groups is"):
        HierarchicalHead(3, groups)


def test_groups_by_name_in_the_order_of_the_classes() -> None:
    lineages = {"Eosinophil": "granulocyte", "monocyte": "agranulocyte", "basophil": "granulocyte", "platelet": "other"}
    assert groups_of(["monocyte", "EOSINOPHIL", "Basophil"], lineages) == [0, 1, 1]
    with pytest.raises(ConfigError, match=r"nothing of the class.* blast, but only of Eosinophil"):
        groups_of(["monocyte", "blast"], lineages)


def test_both_arms_of_the_toy_have_about_as_many_parameters() -> None:
    data = cases(1, 0, 0)
    flat, tree = (
        sum(each.numel() for each in fitted(is_tree, data, 1e-3, 0).parameters()) for is_tree in (False, True)
    )
    assert flat < tree < 1.1 * flat


@pytest.mark.slow
def test_answers_are_nearer_to_the_truth_in_the_tree_than_those_of_a_flat_network() -> None:
    found = distances(seeds=5)
    gain = found[:, 0] - found[:, 1]
    half = 2.776 * gain.std(ddof=1) / np.sqrt(len(gain))
    print(f"flat {found[:, 0].round(3)}, tree {found[:, 1].round(3)}, gain {gain.mean():.3f} +- {half:.3f}")
    assert gain.mean() - half > 0


def test_one_seed_of_it() -> None:
    flat, tree = distances(seeds=1)[0]
    assert tree < flat - 0.01
