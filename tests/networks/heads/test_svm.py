"""The SVM in tensors says what scikit-learn's says."""

from __future__ import annotations

import io
import warnings
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from medresnet3d.bundle.load import fill_network
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.networks.heads.svm import SVMHead, couple


def problem(seed: int, classes: int, features: int = 5, cases: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(cases) % classes
    centres = rng.normal(0, 1.5, (classes, features))
    values = rng.normal(centres[labels], 1) * rng.uniform(0.1, 30, features) + rng.normal(0, 20, features)
    return values.astype(np.float32), labels


def fitted(seed: int, classes: int, kernel: str, **options: Any) -> tuple[SVC, StandardScaler, np.ndarray]:
    values, labels = problem(seed, classes, cases=options.pop("cases", 60))
    scaler = StandardScaler().fit(values.astype(np.float64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        machine = SVC(kernel=kernel, random_state=0, **options).fit(scaler.transform(values), labels)
    return machine, scaler, problem(seed + 1, classes)[0]


def compiled(machine: SVC, scaler: StandardScaler | None, features: int = 5) -> SVMHead:
    head = SVMHead(features, len(machine.classes_), machine.kernel, capacity=128)
    return head.from_sklearn(machine, scaler).eval()


kernels = pytest.mark.parametrize("kernel", ["linear", "rbf"])
numbers = pytest.mark.parametrize("classes", [2, 3, 5])


@kernels
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 6), cost=st.sampled_from([0.01, 1.0, 100.0]))
def test_decisions_are_those_of_scikit_learn(kernel: str, seed: int, classes: int, cost: float) -> None:
    machine, scaler, values = fitted(seed, classes, kernel, C=cost)
    head = SVMHead(5, classes, kernel, capacity=128).double().from_sklearn(machine, scaler)
    expected = machine.decision_function(scaler.transform(values.astype(np.float64)))
    decision = head.decision_function(torch.from_numpy(values).double()).numpy()
    np.testing.assert_allclose(decision, expected, atol=1e-8, rtol=1e-8)


@kernels
@numbers
def test_single_precision_is_within_a_hundred_thousandth(kernel: str, classes: int) -> None:
    machine, scaler, values = fitted(7, classes, kernel, C=10.0)
    machine.decision_function_shape = "ovo"
    expected = machine.decision_function(scaler.transform(values.astype(np.float64)))
    decision = compiled(machine, scaler).pair_decisions(torch.from_numpy(values)).numpy()
    decision = -decision[:, 0] if classes == 2 else decision
    np.testing.assert_allclose(decision, expected, atol=1e-5 * np.abs(expected).max())


@kernels
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 5))
def test_probabilities_are_those_of_scikit_learn(kernel: str, seed: int, classes: int) -> None:
    machine, scaler, values = fitted(seed, classes, kernel, probability=True)
    head = SVMHead(5, classes, kernel, capacity=128).double().from_sklearn(machine, scaler)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        expected = machine.predict_proba(scaler.transform(values.astype(np.float64)))
    probabilities = head.probabilities(torch.from_numpy(values).double()).numpy()
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(head(torch.from_numpy(values).double()).exp().numpy(), expected, atol=1e-5)


@given(st.data(), st.integers(2, 6))
@settings(max_examples=40, deadline=None)
def test_coupling_gives_back_the_probabilities_that_the_pairs_come_from(data: st.DataObject, number: int) -> None:
    truth = torch.tensor(data.draw(st.lists(st.floats(0.05, 1), min_size=number, max_size=number))).double()
    truth = truth / truth.sum()
    pairs = truth[:, None] / (truth[:, None] + truth)
    together = couple(pairs[None].repeat(3, 1, 1))
    torch.testing.assert_close(together.sum(1), torch.ones(3).double())
    assert (together[0] - truth).abs().max() < 0.02, "libsvm stops within 0.005 / K of the optimum's equation"
    torch.testing.assert_close(couple(pairs[None]), together[:1], atol=0, rtol=0)


@kernels
def test_a_batch_changes_no_case(kernel: str) -> None:
    machine, scaler, values = fitted(3, 4, kernel, probability=True)
    head = compiled(machine, scaler)
    together = head(torch.from_numpy(values))
    alone = torch.cat([head(torch.from_numpy(values[n : n + 1])) for n in range(len(values))])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)


@kernels
@numbers
def test_saved_and_loaded_without_knowing_the_number_of_vectors(kernel: str, classes: int) -> None:
    machine, scaler, values = fitted(5, classes, kernel, probability=True)
    head, file = compiled(machine, scaler), io.BytesIO()
    torch.save(head.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    for load in (lambda net: net.load_state_dict(state), lambda net: fill_network(net, state, "here")):
        other = SVMHead(5, classes, kernel, capacity=7)
        load(other)
        assert torch.equal(other(torch.from_numpy(values)), head(torch.from_numpy(values)))


@kernels
def test_fitted_and_unfitted_have_the_same_shapes(kernel: str) -> None:
    machine, scaler, _ = fitted(5, 3, kernel)
    fresh = SVMHead(5, 3, kernel, capacity=128).state_dict()
    assert {name: tensor.shape for name, tensor in compiled(machine, scaler).state_dict().items()} == {
        name: tensor.shape for name, tensor in fresh.items()
    }


@kernels
@numbers
def test_scripted_and_traced(kernel: str, classes: int) -> None:
    machine, scaler, values = fitted(5, classes, kernel, probability=True)
    head, few = compiled(machine, scaler), torch.from_numpy(values[:2])
    for made in (torch.jit.script(head), torch.jit.trace(head, few)):
        torch.testing.assert_close(made(torch.from_numpy(values)), head(torch.from_numpy(values)), atol=1e-6, rtol=1e-6)


@kernels
def test_mixed_precision_does_not_round_what_was_fitted(kernel: str) -> None:
    machine, scaler, values = fitted(5, 3, kernel, C=1000.0, probability=True)
    head, features = compiled(machine, scaler), torch.from_numpy(values)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(head(features), head(features))
        half = head(features)
    assert torch.equal(half, head(features))


def test_unfitted_it_has_no_opinion() -> None:
    for kernel in ("linear", "rbf"):
        answer = SVMHead(4, 3, kernel)(torch.randn(2, 4)).exp()
        torch.testing.assert_close(answer, torch.full((2, 3), 1 / 3))


def test_gradients_reach_the_features() -> None:
    machine, scaler, values = fitted(5, 3, "rbf", probability=True)
    features = torch.from_numpy(values).requires_grad_()
    compiled(machine, scaler).pair_decisions(features).sum().backward()
    assert features.grad is not None and torch.isfinite(features.grad).all() and features.grad.abs().sum() > 0


def test_pairs_come_in_scikit_learns_order() -> None:
    head = SVMHead(2, 4)
    assert list(zip(head.first.tolist(), head.second.tolist(), strict=True)) == list(combinations(range(4), 2))


def test_what_does_not_fit_is_refused() -> None:
    machine, scaler, _ = fitted(5, 3, "rbf")
    with pytest.raises(DataError, match=r"\d+ support vectors, but there is room for 3"):
        SVMHead(5, 3, "rbf", capacity=3).from_sklearn(machine, scaler)
    with pytest.raises(DataError, match="kernel rbf"):
        SVMHead(5, 3, "linear").from_sklearn(machine, scaler)
    with pytest.raises(DataError, match="every class needs a training case"):
        SVMHead(5, 4, "rbf").from_sklearn(machine, scaler)
    with pytest.raises(ConfigError, match="Did you mean 'linear'"):
        SVMHead(5, 2, "linar")
