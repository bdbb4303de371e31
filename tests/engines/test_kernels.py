from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medresnet3d.engines.kernels import (
    DrawKernels,
    draw_kernels,
    kernels_of,
    multiply_adds,
    read_kernels,
    spread_of_kernels,
    write_kernels,
)
from medresnet3d.errors import ConfigError
from medresnet3d.networks.conv_pool import ConvPool


@pytest.mark.parametrize(("dims", "number"), [(2, 1_950), (3, 9_750)])
def test_the_vector_holds_all_kernels_and_nothing_else(dims: int, number: int) -> None:
    network = ConvPool((6, 12), dims)
    vector = read_kernels(network)
    assert vector.shape == (number,)
    first = network.features[0][0].weight
    np.testing.assert_array_equal(vector[: first.numel()], first.detach().double().numpy().ravel())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), dims=st.sampled_from([2, 3]))
def test_kernels_that_are_written_back_are_those_of_the_vector_to_the_last_bit(seed: int, dims: int) -> None:
    network = ConvPool((2, 3), dims)
    others = {name: value.clone() for name, value in network.state_dict().items() if not name.endswith("0.weight")}
    vector = np.random.default_rng(seed).normal(size=read_kernels(network).shape)
    write_kernels(network, vector)
    np.testing.assert_array_equal(read_kernels(network), vector.astype(np.float32).astype(np.float64))
    tensors = torch.cat([weight.detach().ravel() for weight in kernels_of(network)])
    assert torch.equal(tensors, torch.from_numpy(vector).float())
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in others.items())


def test_a_vector_of_another_length_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\(3,\) values were given for the 1950 weights"):
        write_kernels(ConvPool((6, 12), 2), np.zeros(3))


def test_frozen_kernels_are_left_alone() -> None:
    network = ConvPool((6, 12), 2)
    network.freeze(r"features\.0\.")
    assert read_kernels(network).shape == (1_800,)
    network.freeze(r"features\.")
    with pytest.raises(ConfigError, match="all of its convolutions are frozen"):
        kernels_of(network)
    with pytest.raises(ConfigError, match="it has no convolution"):
        kernels_of(nn.Linear(2, 2))


@pytest.mark.parametrize(("distribution", "kurtosis"), [("random", 1.8), ("gaussian", 3.0)])
def test_both_distributions_have_the_variance_of_he(distribution: str, kurtosis: float) -> None:
    network = ConvPool((64, 64), 2)
    draw_kernels(network, distribution, torch.Generator().manual_seed(0))
    for weight in kernels_of(network)[1:]:
        values = weight.detach().double()
        assert values.var().item() == pytest.approx(2 / (64 * 25), rel=0.03)
        assert ((values / values.std()) ** 4).mean().item() == pytest.approx(kurtosis, rel=0.03)
    np.testing.assert_allclose(spread_of_kernels(network)[-1], np.sqrt(2 / (64 * 25)), rtol=0.02)


def test_an_unknown_distribution_lists_the_two() -> None:
    with pytest.raises(ConfigError, match="random, gaussian"):
        draw_kernels(ConvPool((6, 12), 2), "normal", torch.Generator())


def test_a_drawing_stage_repeats_by_seed_and_changes_kernels_alone(tmp_path: Path) -> None:
    network = ConvPool((6, 12), 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    DrawKernels("gaussian", seed=3)(network, tmp_path)
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"features.0.0.weight", "features.1.0.weight"}
    first = read_kernels(network)
    DrawKernels("random", seed=3)(network, tmp_path)
    assert not np.array_equal(read_kernels(network), first)
    DrawKernels("gaussian", seed=3)(network, tmp_path)
    np.testing.assert_array_equal(read_kernels(network), first)


def test_multiplications_are_those_of_paper_and_pencil() -> None:
    network = ConvPool((6, 12), 2).train()
    counts = multiply_adds(network, torch.zeros(1, 28, 28))
    assert counts == {
        "features.0.0": 6 * 25 * 24**2,
        "features.1.0": 12 * 6 * 25 * 8**2,
        "classifier": 2 * 12 * 4**2,
    }
    assert network.training
