"""Trees in tensors decide as scikit-learn's do; a meta-decision tree knows whom to trust."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.tree import DecisionTreeClassifier

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.networks.heads.trees import MetaDecisionTree, TreeHead, grow_choice_tree, meta_features, round_down


def problem(seed: int, classes: int = 3, cases: int = 80) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(cases, 4)).astype(np.float32).round(1)  # rounded: cases lie on thresholds
    return values, rng.integers(0, classes, cases)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), depth=st.integers(1, 8), classes=st.integers(2, 5))
def test_leaves_and_shares_are_exactly_those_of_scikit_learn(seed: int, depth: int, classes: int) -> None:
    values, labels = problem(seed, classes)
    labels[:classes] = range(classes)
    tree = DecisionTreeClassifier(max_depth=depth, random_state=0).fit(values, labels)
    head = TreeHead(classes, 8).from_sklearn(tree)
    thresholds = tree.tree_.threshold[tree.tree_.feature >= 0].astype(np.float32)
    on_edges = np.repeat(np.concatenate([thresholds, np.nextafter(thresholds, np.float32(9))])[:, None], 4, axis=1)
    for cases in (values, problem(seed + 1)[0], on_edges):
        assert np.array_equal(head.leaf(torch.from_numpy(cases)).numpy(), tree.apply(cases))
        shares = head(torch.from_numpy(cases)).exp().numpy()
        np.testing.assert_allclose(shares, tree.predict_proba(cases), atol=1e-6)
        assert np.array_equal(shares.argmax(1), tree.predict(cases))


@given(st.floats(-1e30, 1e30, allow_nan=False), st.floats(-(2.0**90), 2.0**90, width=32))
def test_a_threshold_rounded_down_decides_alike(threshold: float, value: float) -> None:
    single = round_down(np.array([threshold]))[0]
    assert (np.float32(value) <= single) == (float(value) <= threshold)


def test_saved_scripted_and_traced() -> None:
    values, labels = problem(0)
    head = TreeHead(3, 6).from_sklearn(DecisionTreeClassifier(max_depth=6, random_state=0).fit(values, labels))
    cases = torch.from_numpy(problem(1)[0])
    file = io.BytesIO()
    torch.save(head.state_dict(), file)
    file.seek(0)
    other = TreeHead(3, 2)
    other.load_state_dict(torch.load(file, weights_only=True))
    for made in (other, torch.jit.script(head), torch.jit.trace(head, cases[:2])):
        assert torch.equal(made(cases), head(cases))
    assert torch.equal(TreeHead(4)(cases).exp(), torch.full((80, 4), 0.25))


def test_a_tree_without_room_is_refused() -> None:
    values, labels = problem(0)
    tree = DecisionTreeClassifier(max_depth=5, random_state=0).fit(values, labels)
    with pytest.raises(DataError, match="depth 5, but there is room for 3"):
        TreeHead(3, 3).from_sklearn(tree)
    with pytest.raises(ConfigError, match="max_depth is 20"):
        TreeHead(3, 20)


def reliable_where_sure(seed: int, cases: int = 600) -> tuple[torch.Tensor, torch.Tensor]:
    """Magnification A is right where its entropy is low and guesses elsewhere; B is right in 75 of 100 cases."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (cases,), generator=generator)
    sure = torch.rand(cases, generator=generator) < 0.5
    guess = torch.randint(2, (cases,), generator=generator)
    said_a = torch.where(sure, labels, guess)
    said_b = torch.where(torch.rand(cases, generator=generator) < 0.75, labels, 1 - labels)
    confidence = torch.stack([torch.where(sure, 0.97, 0.8), torch.full((cases,), 0.7)], 1)
    said = torch.stack([said_a, said_b], 1)
    first = torch.where(said == 0, confidence, 1 - confidence)
    return torch.stack([first, 1 - first], 2).log(), labels


def accuracy(log_probabilities: torch.Tensor, labels: torch.Tensor) -> float:
    return float((log_probabilities.argmax(1) == labels).float().mean())


def test_knows_whom_to_trust_where_averaging_does_not() -> None:
    tree = MetaDecisionTree(2, max_depth=3).fit(*reliable_where_sure(0))
    logs, labels = reliable_where_sure(1)
    averaged = accuracy(logs.exp().mean(1), labels)
    best_single = max(accuracy(logs[:, m], labels) for m in range(2))
    assert accuracy(tree(logs), labels) > max(averaged, best_single) + 0.05
    sure = logs[:, 0].amax(1) > np.log(0.9)
    assert (tree.choose(logs)[sure] == 0).all() and (tree.choose(logs)[~sure] == 1).float().mean() > 0.95


def test_the_answer_is_that_of_the_chosen_classifier() -> None:
    logs, labels = reliable_where_sure(0)
    tree = MetaDecisionTree(2, max_depth=3).fit(logs, labels)
    answer, chosen = tree(logs), tree.choose(logs)
    assert all(torch.equal(answer[n], logs[n, chosen[n]]) for n in range(len(logs)))
    torch.testing.assert_close(torch.jit.trace(tree, logs[:3])(logs), answer)
    torch.testing.assert_close(torch.jit.script(tree)(logs), answer)


def test_meta_features_are_probabilities_their_maximum_and_their_entropy() -> None:
    logs = torch.tensor([[[0.5, 0.5], [1.0, 0.0]]]).log()
    expected = torch.tensor([[0.5, 0.5, 0.5, np.log(2), 1.0, 0.0, 1.0, 0.0]])
    torch.testing.assert_close(meta_features(logs), expected.float())


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_first_split_is_the_best_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    features, worth = rng.integers(0, 5, (14, 2)).astype(float), rng.random((14, 3))
    feature, threshold, left, *_ = grow_choice_tree(features, worth, 1, min_leaf=2)

    def value(column: int, at: float) -> float:
        part = features[:, column] <= at
        if min(part.sum(), (~part).sum()) < 2:
            return -np.inf
        return worth[part].sum(0).max() + worth[~part].sum(0).max()

    best = max(value(column, at) for column in range(2) for at in features[:, column])
    if left[0] < 0:
        assert best <= worth.sum(0).max() + 1e-8
    else:
        assert value(feature[0], threshold[0]) == pytest.approx(best)


def test_no_case_is_no_tree() -> None:
    with pytest.raises(DataError, match="no case"):
        MetaDecisionTree(2).fit(torch.zeros(0, 2, 2), torch.zeros(0, dtype=torch.int64))
